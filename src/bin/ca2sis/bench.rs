//! `ca2sis bench`: how fast the network is on this processor, or on a GPU.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use ca2sis::device::{self, Choice};
use ca2sis::image::{Picture, Samples};
use ca2sis::kernels;
use ca2sis::kernels::simd::Level;
use ca2sis::label::label;
use ca2sis::model::{Class, FORMAT, Metadata, Model, save};
use ca2sis::nn::{self, Config, Network, Precision, Timing, golden::Formula};
use ca2sis::progress::Progress;
use ca2sis::{Error, Result};
use candle_core::{DType, Device, Tensor};
use serde_json::json;

use crate::common::{open_device, say};

/// Measure the network's parts: medians, against this processor's own peak
#[derive(clap::Args)]
pub struct Args {
    /// Model file [default: the one inside ca2sis]
    #[arg(long, value_name = "FILE", conflicts_with = "published")]
    model: Option<PathBuf>,
    /// The published sizes (19 classes, 256x256), with weights made up
    #[arg(long)]
    published: bool,
    /// Threads to compute with [default: CA2SIS_THREADS, or all processors]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1024))]
    threads: Option<u16>,
    /// auto, cpu, cuda, cuda:N, metal or metal:N
    #[arg(long, value_name = "DEVICE", default_value_t = Choice::Cpu)]
    device: Choice,
    /// Measure the network as it stands, rather than the forms that pictures go through
    #[arg(long, conflicts_with = "gpu_form")]
    plain: bool,
    /// Measure the forms made for GPUs on the CPU too
    #[arg(long)]
    gpu_form: bool,
    /// Pictures at once, on a GPU or with --plain or --gpu-form: several for several rows; decodes are of one style
    #[arg(long, value_name = "N", value_delimiter = ',', default_value = "1", value_parser = clap::value_parser!(u16).range(1..=256))]
    batch: Vec<u16>,
    /// What factors of large products are rounded to: f32 or bf16, on a GPU also tf32 or f16
    #[arg(long, value_name = "P", default_value_t = Precision::F32)]
    precision: Precision,
    /// Multiply f32 whole, where this processor's AMX would take each as the sum of two bfloat16
    #[arg(long, conflicts_with_all = ["plain", "gpu_form", "device", "precision"])]
    exact: bool,
    /// Runs that the medians are of
    #[arg(long, value_name = "N", default_value_t = 9, value_parser = clap::value_parser!(u16).range(1..))]
    runs: u16,
    /// Write the model that --published measures, and stop
    #[arg(long, hide = true, value_name = "FILE")]
    write_published: Option<PathBuf>,
}

pub fn run(args: Args) -> Result<bool> {
    if let Some(threads) = args.threads {
        kernels::set_threads(threads.into())?;
    }
    if let Some(path) = &args.write_published {
        return write_published(path).map(|()| true);
    }
    let folder;
    let path = match (args.published, args.model) {
        (true, _) => {
            folder = tempfile::tempdir().map_err(|e| Error::io(&std::env::temp_dir(), e))?;
            let path = folder.path().join("published.safetensors");
            // In a process of its own, so that the memory for making it is not in this one's peak.
            let io = |e| Error::io(&path, e);
            let program = std::env::current_exe().map_err(io)?;
            let mut command = std::process::Command::new(program);
            // It may be overruled by --threads, which that process is not given.
            command.env_remove("CA2SIS_THREADS");
            if !command.arg("bench").arg("--write-published").arg(&path).status().map_err(io)?.success() {
                return Err(Error::format(&path, "the model to measure could not be written"));
            }
            Some(path)
        }
        (false, path) => path,
    };
    let device = open_device(args.device)?;
    let form = match (args.plain, args.gpu_form || !device.is_cpu()) {
        (true, _) => Some(Form::Plain),
        (false, true) => Some(Form::Gpu),
        (false, false) => None,
    };
    if let Some(form) = form {
        if form == Form::Plain && args.precision != Precision::F32 {
            return Err(Error::unsupported("the network as it stands is in f32: leave --precision out"));
        }
        let batches: Vec<usize> = args.batch.iter().map(|&n| n.into()).collect();
        let measured = (form, args.precision, batches.as_slice(), args.runs.into());
        let (report, text) = measure_anywhere(path.as_deref(), &device, measured)?;
        say!("{}", if crate::common::json() { report.to_string() } else { text });
        return Ok(true);
    }
    let level = match args.precision {
        Precision::F32 if args.exact => Level::best(),
        Precision::F32 => Level::fastest(),
        Precision::Bf16 => Level::bf16()
            .ok_or_else(|| Error::invalid("this processor has no AVX-512 BF16: leave --precision out"))?,
        other => {
            let what =
                format!("--precision {other} is for GPUs: add --gpu-form to measure their forms on the CPU");
            return Err(Error::unsupported(what));
        }
    };
    let (report, text) = measure(path.as_deref(), level, args.precision, args.runs.into())?;
    say!("{}", if crate::common::json() { report.to_string() } else { text });
    Ok(true)
}

/// Blocks of classes, and colours by position: `(b, side, side, n)` and `(b, side, side, 3)`, all alike.
fn inputs(classes: usize, side: usize, batch: usize, device: &Device) -> Result<(Tensor, Tensor)> {
    let labels: Vec<u32> =
        (0..side * side).map(|i| ((i / side / 16 * 7 + i % side / 16 * 5) % classes) as u32).collect();
    let labels = Tensor::from_vec(labels, (1, side, side), &Device::Cpu)?;
    let onehot = candle_nn::encoding::one_hot(labels, classes, 1f32, 0f32)?;
    let rgb: Vec<f32> = (0..side * side * 3).map(|i| (i * 7919 % 2003) as f32 / 1001.0 - 1.0).collect();
    let rgb = Tensor::from_vec(rgb, (1, side, side, 3), &Device::Cpu)?;
    let many = |t: &Tensor| t.repeat((batch, 1, 1, 1))?.contiguous()?.to_device(device);
    Ok((many(&onehot)?, many(&rgb)?))
}

fn load(path: Option<&Path>, device: &Device) -> Result<(Network, f64)> {
    let begun = Instant::now();
    let model = match path {
        Some(path) => Model::open(path)?,
        None => Model::embedded()?,
    };
    let network = model.network(device)?;
    device.synchronize()?;
    Ok((network, ms(begun.elapsed())))
}

/// What is measured in wholes, on any device.
#[derive(Clone, Copy, PartialEq)]
enum Form {
    Plain,
    Gpu,
}

fn measure_anywhere(
    path: Option<&Path>,
    device: &Device,
    (form, precision, batches, runs): (Form, Precision, &[usize], usize),
) -> Result<(serde_json::Value, String)> {
    let info = device::Info::of(device);
    let idle = device::memory_in_use(device)?;
    load(path, device)?; // the file's pages come into memory, the device's kernels with the first runs below
    let (network, load_ms) = load(path, device)?;
    let network = network.with_precision(precision);
    let (classes, side) = (network.config().classes, network.config().resolution);
    let name = if form == Form::Plain { "the network as it stands" } else { "folded, for GPUs" };
    let mut text = format!(
        "{classes} classes, {side}x{side}, {name}, {precision}, {} ({}); medians of {runs}\nload {load_ms:.1} ms\n",
        info.choice, info.name
    );
    let once = |f: &dyn Fn() -> Result<Tensor>| -> Result<Tensor> {
        let made = f()?;
        device.synchronize()?;
        Ok(made)
    };
    let timed = |f: &dyn Fn() -> Result<Tensor>| -> Result<(f64, Tensor)> {
        // The first ones find memory and choose kernels.
        once(f)?;
        let made = once(f)?;
        Ok((median(runs, || once(f).map(drop))?, made))
    };

    // One style, folded or as it is; what its folding costs, and the parts of one decode.
    let (onehot, rgb) = inputs(classes, side, 1, device)?;
    let style = network.encode_style(&rgb, &onehot, Progress::NONE)?.squeeze(0)?;
    let (mut arrange_ms, mut fold_ms, mut prepared, mut stages) = (None, None, None, Vec::new());
    if form == Form::Gpu {
        let begun = Instant::now();
        network.prepare_tensors(&style)?;
        device.synchronize()?;
        arrange_ms = Some(ms(begun.elapsed()));
        fold_ms = Some(median(runs, || {
            prepared = Some(network.prepare_tensors(&style)?);
            Ok(device.synchronize()?)
        })?);
        if let Some(prepared) = &prepared {
            let code = network.encode_mask(&onehot)?;
            prepared.generate(&code, Progress::NONE)?;
            prepared.generate_timed(&code, Progress::NONE, &mut stages)?;
        }
    }
    let loaded_mb = device::memory_in_use(device)?.zip(idle).map(|(now, idle)| mb(now.saturating_sub(idle)));
    let mut rows = Vec::new();
    for &batch in batches {
        let (onehot, rgb) = inputs(classes, side, batch, device)?;
        let styles = style.unsqueeze(0)?.repeat((batch, 1, 1))?.contiguous()?;
        let encode = || match form {
            Form::Plain => network.encode_style_plain(&rgb, &onehot, Progress::NONE),
            Form::Gpu => network.encode_style_tensors(&rgb, &onehot, Progress::NONE),
        };
        let (row, peak_mb) = with_peak(device, || {
            let (encode_ms, _) = timed(&encode)?;
            let (mask_ms, code) = timed(&|| Ok(network.encode_mask(&onehot)?))?;
            let decode = || match &prepared {
                None => network.generate_plain(&code, &styles, Progress::NONE),
                Some(prepared) => prepared.generate_batch(&code, Progress::NONE),
            };
            Ok([encode_ms, mask_ms, timed(&decode)?.0])
        })?;
        let [encode_ms, mask_ms, decode_ms] = row;
        let image_ms = mask_ms + decode_ms;
        // As it stands, the network takes its keys and values anew in every decode.
        let first_image_ms = image_ms + fold_ms.unwrap_or(0.0);
        let peak_mb = peak_mb.zip(idle).map(|(peak, idle)| mb(peak.saturating_sub(idle)));
        let speed = batch as f64 * 1e3;
        rows.push(json!({
            "batch": batch, "encode_ms": encode_ms, "mask_ms": mask_ms, "decode_ms": decode_ms,
            "image_ms": image_ms, "first_image_ms": first_image_ms,
            "encodes_per_second": speed / encode_ms, "decodes_per_second": speed / decode_ms,
            "peak_device_mb": peak_mb,
        }));
        text += &format!(
            "batch {batch:3}: encode style {encode_ms:8.1} ms, encode mask {mask_ms:8.1} ms, decode {decode_ms:8.1} ms: {:.1} \
             decodes a second",
            speed / decode_ms
        );
        text += &peak_mb.map_or("\n".into(), |mb| format!(", {mb:.0} MB of the device\n"));
    }
    if let Some((arrange, fold)) = arrange_ms.zip(fold_ms) {
        text += &format!("arrange weights {arrange:.1} ms once a model, fold a style {fold:.1} ms\n");
    }
    let mut parts = Vec::new();
    for Timing { part, time, flops } in &stages {
        let (time, gflop) = (ms(*time), flops * 1e-9);
        let speed = gflop * 1e3 / time;
        text += &format!("  {part:17} {time:8.2} ms  {speed:8.1} GFLOP/s  {gflop:7.2} GFLOP\n");
        parts.push(json!({"part": part, "ms": time, "gflop": gflop, "gflops": speed}));
    }
    let peak_rss_mb = peak_rss_mb();
    text += &peak_rss_mb.map_or(String::new(), |mb| format!("peak memory {mb:.0} MB"));
    let report = json!({
        "device": info.choice.to_string(), "device_name": info.name,
        "form": if form == Form::Plain { "plain" } else { "gpu" }, "precision": precision.to_string(),
        "classes": classes, "resolution": side, "threads": kernels::threads(), "runs": runs,
        "load_ms": load_ms, "arrange_ms": arrange_ms, "fold_ms": fold_ms, "loaded_device_mb": loaded_mb,
        "batches": rows, "stages": parts, "peak_rss_mb": peak_rss_mb,
    });
    Ok((report, text))
}

fn mb(bytes: u64) -> f64 {
    bytes as f64 / f64::from(1 << 20)
}

/// Runs `work` and gives the most of the device's memory that was taken meanwhile, looked at every few milliseconds.
fn with_peak<T>(device: &Device, work: impl FnOnce() -> Result<T>) -> Result<(T, Option<u64>)> {
    if device::memory_in_use(device)?.is_none() {
        return Ok((work()?, None));
    }
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let watch = scope.spawn(|| {
            let mut peak = 0;
            while !done.load(Ordering::Relaxed) {
                peak = peak.max(device::memory_in_use(device).ok().flatten().unwrap_or(0));
                std::thread::sleep(Duration::from_millis(2));
            }
            peak
        });
        let result = work();
        done.store(true, Ordering::Relaxed);
        Ok((result?, watch.join().ok()))
    })
}

fn measure(
    path: Option<&Path>,
    level: Level,
    precision: Precision,
    runs: usize,
) -> Result<(serde_json::Value, String)> {
    load(path, &Device::Cpu)?; // the file's pages come into memory
    let (network, load_ms) = load(path, &Device::Cpu)?;
    let config = network.config().clone();
    let (classes, side) = (config.classes, config.resolution);

    let begun = Instant::now();
    network.warm_up(level)?;
    let layout_ms = ms(begun.elapsed());

    let (onehot, rgb) = inputs(classes, side, 1, &Device::Cpu)?;
    let style = network.encode_style(&rgb, &onehot, Progress::NONE)?;
    let cpu = cpu_ms();
    let encode_ms = median(runs, || network.encode_style(&rgb, &onehot, Progress::NONE).map(drop))?;
    let encode_cpu_ms = cpu_ms().zip(cpu).map(|(now, before)| (now - before) / runs as f64);
    let mask_code = network.encode_mask(&onehot)?;
    let mask_ms = median(runs, || {
        network.encode_mask(&onehot)?;
        Ok(())
    })?;
    let style = style.squeeze(0)?;
    let fold_ms = median(runs, || network.prepare_at(&style, level).map(drop))?;
    let prepared = network.prepare_at(&style, level)?;
    prepared.generate(&mask_code, Progress::NONE)?;
    let mut timings: Vec<Vec<Timing>> = Vec::new();
    let cpu = cpu_ms();
    let decode_ms = median(runs, || {
        let mut parts = Vec::new();
        prepared.generate_timed(&mask_code, Progress::NONE, &mut parts)?;
        timings.push(parts);
        Ok(())
    })?;
    let decode_cpu_ms = cpu_ms().zip(cpu).map(|(now, before)| (now - before) / runs as f64);
    let samples = (0..side * side * 3).map(|i| (i * 7919 % 251) as u8).collect();
    let picture = Picture::new(side, side, 3, Samples::U8(samples))?;
    let label = || label(&network, &picture.view(), Progress::NONE).map(drop);
    let label_ms = match network.config().labeler {
        Some(_) => Some(median(runs, label)?),
        None => None,
    };
    let peak_rss_mb = peak_rss_mb();

    let threads = kernels::threads();
    let peak = kernels::measure_peak(level, threads) * 1e-9;
    let encode_gflops = network.encode_flops()? * 1e-6 / encode_ms;
    let decode_flops: f64 = timings[0].iter().map(|t| t.flops).sum();
    let stages: Vec<(String, f64, f64)> = (0..timings[0].len())
        .map(|i| {
            let time = middle(timings.iter().map(|t| ms(t[i].time)).collect());
            (timings[0][i].part.clone(), time, timings[0][i].flops * 1e-9)
        })
        .collect();

    // What other programs' times of a picture hold: the mask's embedding, and the style's keys and values, which are folded once a style.
    let image_ms = mask_ms + decode_ms;
    let first_image_ms = mask_ms + fold_ms + decode_ms;
    let restyle_ms = 2.0 * (encode_ms + mask_ms + fold_ms + decode_ms);
    let json_stages: Vec<_> = stages
        .iter()
        .map(|(part, time, gflop)| json!({"part": part, "ms": time, "gflop": gflop, "gflops": gflop * 1e3 / time}))
        .collect();
    let report = json!({
        "classes": classes, "resolution": side, "registers": format!("{level:?}"),
        "precision": precision.to_string(), "image_ms": image_ms, "first_image_ms": first_image_ms,
        "threads": threads, "peak_gflops": peak, "load_ms": load_ms, "layout_ms": layout_ms, "fold_ms": fold_ms,
        "encode_ms": encode_ms, "mask_ms": mask_ms, "decode_ms": decode_ms, "encode_cpu_ms": encode_cpu_ms, "decode_cpu_ms": decode_cpu_ms, "restyle_ms": restyle_ms,
        "encode_gflops": encode_gflops, "decode_gflops": decode_flops * 1e-6 / decode_ms,
        "label_ms": label_ms, "peak_rss_mb": peak_rss_mb, "stages": json_stages,
    });

    let mut text = format!(
        "{classes} classes, {side}x{side}, {precision}, {level:?}, {threads} threads; medians of {runs}\n\
         peak of these registers {peak:8.0} GFLOP/s\n\
         load                {load_ms:8.1} ms\n\
         lay weights out     {layout_ms:8.1} ms, once a model\n\
         encode style        {encode_ms:8.1} ms  {encode_gflops:6.1} GFLOP/s\n\
         encode mask         {mask_ms:8.1} ms\n\
         fold a style        {fold_ms:8.1} ms\n\
         decode              {decode_ms:8.1} ms  {:6.1} GFLOP/s\n\
         a picture           {image_ms:8.1} ms: mask and decode; {first_image_ms:.1} ms with the fold, the first time in a style\n",
        decode_flops * 1e-6 / decode_ms,
    );
    for (part, time, gflop) in &stages {
        let speed = gflop * 1e3 / time;
        text += &format!(
            "  {part:17} {time:8.1} ms  {speed:6.1} GFLOP/s  {gflop:7.2} GFLOP  {:3.0} %\n",
            100.0 * speed / peak
        );
    }
    if let Some(label) = label_ms {
        text += &format!("propose labels      {label:8.1} ms for a picture of that size, edges included\n");
    }
    text += &format!("a restyle's network {restyle_ms:8.1} ms: two styles, two masks, two decodes");
    if let Some((encode, decode)) = encode_cpu_ms.zip(decode_cpu_ms) {
        let speed = decode_flops * 1e-6 / decode;
        text += &format!(
            "\nprocessor time      {encode:8.0} ms a style, {decode:.0} ms a decode: {speed:.0} GFLOP/s a thread"
        );
    }
    if let Some(mb) = peak_rss_mb {
        text += &format!("\npeak memory         {mb:8.0} MB");
    }
    Ok((report, text))
}

fn ms(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}

fn middle(mut times: Vec<f64>) -> f64 {
    times.sort_by(f64::total_cmp);
    times[times.len() / 2]
}

/// In milliseconds.
fn median(runs: usize, mut f: impl FnMut() -> Result<()>) -> Result<f64> {
    let mut times = Vec::with_capacity(runs);
    for _ in 0..runs {
        let begun = Instant::now();
        f()?;
        times.push(ms(begun.elapsed()));
    }
    Ok(middle(times))
}

/// User and system time of this process so far, where the system tells: in hundredths of a second.
fn cpu_ms() -> Option<f64> {
    let stat = std::fs::read_to_string("/proc/self/stat").ok()?;
    // Fields 14 and 15; the second, the program's name, may hold spaces.
    let mut fields = stat.rsplit_once(')')?.1.split_whitespace().skip(11);
    let mut ticks = || fields.next()?.parse::<f64>().ok();
    Some((ticks()? + ticks()?) * 10.0)
}

/// The most memory that this process has had, where the system tells.
fn peak_rss_mb() -> Option<f64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|l| l.strip_prefix("VmHWM:"))?;
    Some(line.trim().strip_suffix("kB")?.trim().parse::<f64>().ok()? / 1024.0)
}

fn write_published(path: &Path) -> Result<()> {
    let config = Config::published(19, 32, 256, true);
    let formula = Formula { seed: 0 };
    let tensors = nn::manifest(&config)?
        .into_iter()
        .map(|(name, shape)| {
            let tensor = Tensor::from_vec(formula.values(&name, &shape), shape, &Device::Cpu)?;
            Ok((name, tensor))
        })
        .collect::<Result<BTreeMap<_, _>>>()?;
    let class = |i: usize| Class {
        index: i as u32,
        name: format!("class {i}"),
        color: [(i * 53 % 256) as u8, (i * 101 % 256) as u8, (i * 197 % 256) as u8],
        groups: Vec::new(),
    };
    let metadata = Metadata {
        format: FORMAT,
        name: "published sizes".into(),
        version: "0".into(),
        licence: "none: weights of a formula, to measure with".into(),
        authors: Vec::new(),
        training_data: Vec::new(),
        limits: vec!["not trained".into()],
        classes: (0..config.classes).map(class).collect(),
        network: config,
        bf16_db: None,
    };
    save(path, &metadata, &tensors, DType::F16)
}
