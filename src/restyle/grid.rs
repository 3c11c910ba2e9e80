//! Bilateral grids of affine colour transforms, one for each class.
//!
//! "Bilateral Guided Upsampling", Chen, Adams, Wadhwa, Hasinoff, 2016: a change that is known on a small picture is fitted
//! by transforms that vary slowly over the picture and over luminance, and these are applied to the large picture's
//! own pixels. Here every class has a grid of its own, fitted on its own pixels only, so that nothing bleeds over a
//! border between classes.
//!
//! A grid holds the change itself, not the new colour: `delta(rgb) = linear (rgb - centre) + offset`. No change is then
//! all zeros, exactly.

use super::matrix::{self, IDENTITY, Matrix, Vector};

/// Rec. 709's luma: the guide.
pub(super) const LUMA: [f32; 3] = [0.2126, 0.7152, 0.0722];

/// Numbers of one transform: three rows of (linear part, offset).
pub(super) const COEFFICIENTS: usize = 12;

/// How strongly a class's texture may be amplified or flattened. 3 lets a black body become white without its noise
/// becoming grain; below a quarter a surface looks like plastic.
pub(super) const GAINS: (f64, f64) = (0.25, 3.0);

/// Pulls a class's linear part towards its prior, as if by this much variance of its colours (0 to 1, squared).
const RIDGE: f64 = 0.004;
/// Pulls each local transform towards its neighbours', and towards the class's, in pixels. Along luminance, neighbours
/// that differ would be contrast, which the class's transform should set.
const SMOOTH: f64 = 40.0;
const SMOOTH_LUMA: f64 = 160.0;
const TO_CLASS: f64 = 8.0;
/// The network's pixels to a cell.
const CELL: usize = 16;
/// Vertices along luminance.
const LEVELS: usize = 4;
/// A solved grid is refined so many times by a quadratic B-spline, so that a smooth surface shows no creases.
const REFINE: usize = 4;
/// Conjugate gradient steps; the system is well conditioned by its regularisation.
const STEPS: usize = 30;

/// One pixel of a class to fit to.
#[derive(Clone, Copy, Debug)]
pub(super) struct Sample {
    /// Place, in the network's pixels.
    pub at: [f32; 2],
    /// The content's colour, display-encoded.
    pub rgb: [f32; 3],
    /// How the generator changed it.
    pub delta: [f32; 3],
    /// What light and shade here are to change by beside that; only its slow part over the picture is taken up.
    pub light: [f32; 3],
    pub weight: f32,
}

/// The change of one whole class: `linear (rgb - centre) + offset`.
#[derive(Clone, Copy, Debug)]
pub(super) struct Affine {
    pub centre: Vector,
    pub linear: Matrix,
    pub offset: Vector,
}

impl Affine {
    /// The least squares fit, drawn towards what [`shading`] says of a surface that takes another colour.
    pub fn fit(samples: &[Sample]) -> Self {
        let total: f64 = samples.iter().map(|s| f64::from(s.weight)).sum();
        let mean = |f: &dyn Fn(&Sample) -> f64| {
            samples.iter().map(|s| f64::from(s.weight) * f(s)).sum::<f64>() / total
        };
        let centre: Vector = std::array::from_fn(|c| mean(&|s| f64::from(s.rgb[c])));
        let offset: Vector = std::array::from_fn(|c| mean(&|s| f64::from(s.delta[c])));
        let (mut xx, mut xy) = ([[0.0; 3]; 3], [[0.0; 3]; 3]);
        for s in samples {
            let w = f64::from(s.weight) / total;
            let x: Vector = std::array::from_fn(|c| f64::from(s.rgb[c]) - centre[c]);
            let y: Vector = std::array::from_fn(|c| f64::from(s.delta[c]) - offset[c]);
            for i in 0..3 {
                for j in 0..3 {
                    xx[i][j] += w * x[i] * x[j];
                    xy[i][j] += w * y[i] * x[j];
                }
            }
        }
        let prior = shading(&centre, &std::array::from_fn(|c| centre[c] + offset[c]));
        let linear: Matrix = std::array::from_fn(|row| {
            let a = matrix::add_scaled(&xx, RIDGE, &IDENTITY);
            matrix::solve(&a, &std::array::from_fn(|j| xy[row][j] + RIDGE * prior[row][j]))
        });
        Self::limited(centre, linear, offset)
    }

    /// With the gains of `1 + linear` kept within [`GAINS`].
    pub fn limited(centre: Vector, linear: Matrix, offset: Vector) -> Self {
        if linear.iter().flatten().all(|&v| v == 0.0) {
            return Self { centre, linear, offset };
        }
        let whole = matrix::limit_gains(&matrix::add_scaled(&linear, 1.0, &IDENTITY), GAINS.0, GAINS.1);
        Self { centre, linear: matrix::add_scaled(&whole, -1.0, &IDENTITY), offset }
    }

    fn delta(&self, rgb: &[f32; 3]) -> [f64; 3] {
        let x = std::array::from_fn(|c| f64::from(rgb[c]) - self.centre[c]);
        let y = matrix::apply(&self.linear, &x);
        std::array::from_fn(|c| y[c] + self.offset[c])
    }

    /// Multiplied by `scale`.
    pub fn scaled(&self, scale: f64) -> Self {
        Self {
            linear: self.linear.map(|r| r.map(|v| v * scale)),
            offset: self.offset.map(|v| v * scale),
            ..*self
        }
    }
}

/// How much brighter a change makes a colour, within bounds that keep noise and texture in proportion.
pub(super) fn gain(before: &Vector, change: &Vector) -> f64 {
    let luma = |v: &Vector| (0..3).map(|c| f64::from(LUMA[c]) * v[c]).sum::<f64>();
    let before = luma(before).max(0.02);
    ((before + luma(change)) / before).clamp(0.5, 2.0)
}

/// How small differences on a surface of colour `from` change when it takes colour `to`, less identity: their part along
/// the surface's own colour is shading, and becomes shading of the new colour; the rest, print and texture, stays, and
/// fades as far as the surface darkens. Nothing, exactly, when the colours are the same.
fn shading(from: &Vector, to: &Vector) -> Matrix {
    // The colour of a surface darker than this is mostly noise.
    const DARK: f64 = 0.05;
    let luma = |v: &Vector| (0..3).map(|c| f64::from(LUMA[c]) * v[c]).sum::<f64>().max(DARK);
    let (dark, ratio) = (luma(from), luma(to) / luma(from));
    let (bounded, rest) = (ratio.clamp(0.5, 2.0) / ratio, ratio.clamp(0.5, 1.0));
    matrix::build(|i, j| {
        let along = f64::from(LUMA[j]) / dark;
        (to[i] * bounded - from[i] * rest) * along + (rest - 1.0) * IDENTITY[i][j]
    })
}

/// The transforms of one class, ready to be sliced.
#[derive(Clone, Debug)]
pub(super) struct Grid {
    /// The network's coordinates of vertex 0, and vertices a pixel.
    origin: [f64; 2],
    density: [f64; 2],
    /// Vertices in x, y, and luminance.
    size: [usize; 3],
    /// Luminance of level 0, and levels a unit of luminance.
    level: (f32, f32),
    /// By y, x, level: [`COEFFICIENTS`] numbers, of which every fourth is an offset for black, not for the class's centre.
    values: Vec<f32>,
}

impl Grid {
    /// One transform everywhere.
    pub fn uniform(affine: &Affine) -> Self {
        let mut values = Vec::with_capacity(COEFFICIENTS);
        for row in 0..3 {
            let to_centre: f64 = (0..3).map(|c| affine.linear[row][c] * affine.centre[c]).sum();
            values.extend(affine.linear[row].map(|v| v as f32));
            values.push((affine.offset[row] - to_centre) as f32);
        }
        Self { origin: [0.0; 2], density: [0.0; 2], size: [1; 3], level: (0.0, 0.0), values }
    }

    /// Fits the samples of one class, which are at least one. All zeros when their deltas are.
    pub fn fit(samples: &[Sample]) -> Self {
        let class = Affine::fit(samples);
        let lattice = Lattice::around(samples);
        let residuals: Vec<[f64; 3]> = samples
            .iter()
            .map(|s| {
                let d = class.delta(&s.rgb);
                std::array::from_fn(|c| f64::from(s.delta[c]) - d[c])
            })
            .collect();
        let rows: Vec<RowOf> = samples.iter().map(|s| lattice.row(s, &class.centre)).collect();
        let local: Vec<Vec<f64>> = (0..3).map(|c| lattice.solve(&rows, &residuals, c)).collect();
        let light = lattice.light(samples);

        let vertices = lattice.vertices();
        let mut coarse = vec![0.0f64; vertices * COEFFICIENTS];
        for v in 0..vertices {
            for row in 0..3 {
                let out = &mut coarse[v * COEFFICIENTS + row * 4..][..4];
                for (k, value) in out.iter_mut().enumerate().take(3) {
                    *value = class.linear[row][k] + local[row][v * 4 + k];
                }
                let to_centre: f64 = (0..3).map(|k| out[k] * class.centre[k]).sum();
                out[3] =
                    class.offset[row] + local[row][v * 4 + 3] + light[row][v / lattice.size[2]] - to_centre;
            }
        }
        lattice.refined(&coarse)
    }

    /// The mean of several changes, each with its weight, its grid (none changes nothing), and where this picture lies on the
    /// grid's: column x at `ax + bx x`, row y at `ay + by y`. None when nothing is changed. One alone is taken over as it is; the
    /// vertices of a mean lie as the first grid's do.
    pub fn mean(parts: &[(f64, Option<&Self>, [f64; 4])]) -> Option<Self> {
        let parts: Vec<_> = parts.iter().filter(|(weight, ..)| *weight > 0.0).collect();
        let total: f64 = parts.iter().map(|(weight, ..)| weight).sum();
        let (first, [ax, bx, ay, by]) = parts.iter().find_map(|(_, grid, place)| Some(((*grid)?, *place)))?;
        let origin = [(first.origin[0] - ax) / bx, (first.origin[1] - ay) / by];
        let density = [first.density[0] * bx, first.density[1] * by];
        let mut mean = Self { origin, density, ..first.clone() };
        if parts.len() > 1 {
            mean.span(parts.iter().filter_map(|(_, grid, _)| *grid));
            let [nx, ny, nz] = mean.size;
            mean.values = vec![0.0; nx * ny * nz * COEFFICIENTS];
            for (i, out) in mean.values.chunks_exact_mut(COEFFICIENTS).enumerate() {
                let [x, y, z] = [i / nz % nx, i / nz / nx, i % nz];
                let along = |axis: usize, k: usize| {
                    let step = if density[axis] > 0.0 { k as f64 / density[axis] } else { 0.0 };
                    origin[axis] + step
                };
                let (x, y) = (along(0, x), along(1, y));
                let luma = mean.level.0 + if mean.level.1 > 0.0 { z as f32 / mean.level.1 } else { 0.0 };
                let mut sum = [0.0f64; COEFFICIENTS];
                for (weight, grid, [ax, bx, ay, by]) in &parts {
                    let Some(grid) = grid else { continue };
                    let values = grid.at(ax + bx * x, ay + by * y, luma);
                    sum.iter_mut().zip(values).for_each(|(sum, v)| *sum += weight * f64::from(v));
                }
                out.iter_mut().zip(sum).for_each(|(out, sum)| *out = (sum / total) as f32);
            }
        }
        (!mean.is_zero()).then_some(mean)
    }

    /// Gives this grid levels that span those of all `grids`, and twice as many of them, so that none's are smoothed away.
    fn span<'a>(&mut self, grids: impl Iterator<Item = &'a Self>) {
        let spans = grids
            .filter(|g| g.size[2] > 1)
            .map(|g| (g.level.0, g.level.0 + (g.size[2] - 1) as f32 / g.level.1));
        if let Some((low, high)) = spans.reduce(|a, b| (a.0.min(b.0), a.1.max(b.1))) {
            self.size[2] = 2 * LEVELS - 1;
            self.level = (low, (self.size[2] - 1) as f32 / (high - low));
        }
    }

    /// The transform at a place of the network's picture, for a luminance.
    fn at(&self, x: f64, y: f64, luma: f32) -> [f32; COEFFICIENTS] {
        let place = |v: f64, n: usize| {
            let v = v.clamp(0.0, (n - 1) as f64);
            let low = (v as usize).min(n.saturating_sub(2));
            [(low, 1.0 - (v - low as f64)), ((low + 1).min(n - 1), v - low as f64)]
        };
        let along =
            |axis: usize, v: f64| place((v - self.origin[axis]) * self.density[axis], self.size[axis]);
        let (xs, ys) = (along(0, x), along(1, y));
        let zs = place(f64::from((luma - self.level.0) * self.level.1), self.size[2]);
        let mut sum = [0.0f32; COEFFICIENTS];
        for (y, wy) in ys {
            for (x, wx) in xs {
                for (z, wz) in zs {
                    let at = ((y * self.size[0] + x) * self.size[2] + z) * COEFFICIENTS;
                    let weight = (wx * wy * wz) as f32;
                    sum.iter_mut().zip(&self.values[at..]).for_each(|(sum, v)| *sum += weight * v);
                }
            }
        }
        sum
    }

    /// Bytes that it holds, about.
    pub fn bytes(&self) -> usize {
        self.values.len() * size_of::<f32>()
    }

    pub fn is_zero(&self) -> bool {
        self.values.iter().all(|&v| v == 0.0)
    }

    /// The grid's transforms along one row of the network's picture, its `y` not a whole number.
    pub fn slab(&self, y: f64, out: &mut Vec<f32>) {
        let [nx, ny, nz] = self.size;
        let row = nx * nz * COEFFICIENTS;
        let at = ((y - self.origin[1]) * self.density[1]).clamp(0.0, (ny - 1) as f64);
        let low = (at as usize).min(ny.saturating_sub(2));
        let t = (at - low as f64) as f32;
        let (a, b) = (&self.values[low * row..][..row], &self.values[(low + 1).min(ny - 1) * row..][..row]);
        out.clear();
        out.extend(a.iter().zip(b).map(|(a, b)| a + (b - a) * t));
    }

    /// Where column `x` of the network's picture lies among the vertices, as (offset, vertices a pixel).
    pub fn along(&self) -> (f64, f64) {
        (-self.origin[0] * self.density[0], self.density[0])
    }

    /// Adds `weight` times the change of `rgb` to `delta`; `x` is a place among the slab's vertices.
    #[inline]
    pub fn add_delta(&self, slab: &[f32], x: f32, rgb: &[f32; 3], weight: f32, delta: &mut [f32; 3]) {
        let [nx, _, nz] = self.size;
        let luma = rgb[0] * LUMA[0] + rgb[1] * LUMA[1] + rgb[2] * LUMA[2];
        let place = |v: f32, n: usize| {
            // max, then min: NaN ends at 0.
            let v = v.max(0.0).min((n - 1) as f32);
            let low = (v as usize).min(n.saturating_sub(2));
            (low, v - low as f32)
        };
        let (x0, fx) = place(x, nx);
        let (z0, fz) = place((luma - self.level.0) * self.level.1, nz);
        let (dx, dz) = (if nx > 1 { nz * COEFFICIENTS } else { 0 }, if nz > 1 { COEFFICIENTS } else { 0 });
        let at = (x0 * nz + z0) * COEFFICIENTS;
        let corner = |i: usize| -> &[f32; COEFFICIENTS] { slab[i..].first_chunk().expect("a vertex") };
        let (a, b, c, d) = (corner(at), corner(at + dz), corner(at + dx), corner(at + dx + dz));
        let mut m = [0.0f32; COEFFICIENTS];
        for i in 0..COEFFICIENTS {
            let (near, far) = (a[i] + (b[i] - a[i]) * fz, c[i] + (d[i] - c[i]) * fz);
            m[i] = near + (far - near) * fx;
        }
        for row in 0..3 {
            let m = &m[row * 4..row * 4 + 4];
            delta[row] += weight * (m[0] * rgb[0] + m[1] * rgb[1] + m[2] * rgb[2] + m[3]);
        }
    }
}

/// What a sample reads of the coarse grid: its eight vertices with their weights, and its colour from the centre with a 1.
struct RowOf {
    vertices: [(u32, f64); 8],
    colour: [f64; 4],
    weight: f64,
}

/// A coarse grid of trilinear hat functions around a class's samples.
struct Lattice {
    origin: [f64; 2],
    density: [f64; 2],
    size: [usize; 3],
    level: (f32, f32),
}

impl Lattice {
    fn around(samples: &[Sample]) -> Self {
        let span = |f: &dyn Fn(&Sample) -> f32| {
            let values = samples.iter().map(f);
            values.fold((f32::MAX, f32::MIN), |(low, high), v| (low.min(v), high.max(v)))
        };
        let (mut origin, mut density, mut size) = ([0.0; 2], [0.0; 2], [1; 3]);
        for axis in 0..2 {
            let (low, high) = span(&|s| s.at[axis]);
            let length = f64::from(high - low);
            size[axis] = (length / CELL as f64).round() as usize + 1;
            origin[axis] = f64::from(low);
            density[axis] = if size[axis] > 1 { (size[axis] - 1) as f64 / length } else { 0.0 };
        }
        let luma = |s: &Sample| (0..3).map(|c| s.rgb[c] * LUMA[c]).sum::<f32>();
        let (low, high) = span(&luma);
        let level = if high - low > 0.05 {
            size[2] = LEVELS;
            (low, (LEVELS - 1) as f32 / (high - low))
        } else {
            (0.0, 0.0)
        };
        Self { origin, density, size, level }
    }

    fn vertices(&self) -> usize {
        self.size.iter().product()
    }

    fn row(&self, s: &Sample, centre: &Vector) -> RowOf {
        let luma: f32 = (0..3).map(|c| s.rgb[c] * LUMA[c]).sum();
        let places = [
            (f64::from(s.at[0]) - self.origin[0]) * self.density[0],
            (f64::from(s.at[1]) - self.origin[1]) * self.density[1],
            f64::from((luma - self.level.0) * self.level.1),
        ];
        let hats: [(usize, usize, f64); 3] = std::array::from_fn(|axis| {
            let n = self.size[axis];
            let place = places[axis].clamp(0.0, (n - 1) as f64);
            let low = (place as usize).min(n.saturating_sub(2));
            (low, (low + 1).min(n - 1), place - low as f64)
        });
        let [_, _, nz] = self.size;
        let vertices = std::array::from_fn(|corner| {
            let pick = |axis: usize| {
                let (low, high, t) = hats[axis];
                if corner >> axis & 1 == 1 { (high, t) } else { (low, 1.0 - t) }
            };
            let ((x, wx), (y, wy), (z, wz)) = (pick(0), pick(1), pick(2));
            (((y * self.size[0] + x) * nz + z) as u32, wx * wy * wz)
        });
        let c = |i: usize| f64::from(s.rgb[i]) - centre[i];
        RowOf { vertices, colour: [c(0), c(1), c(2), 1.0], weight: f64::from(s.weight) }
    }

    /// Least squares of output channel `channel`, four numbers a vertex.
    fn solve(&self, rows: &[RowOf], residuals: &[[f64; 3]], channel: usize) -> Vec<f64> {
        let n = self.vertices() * 4;
        let mut right = vec![0.0; n];
        for (row, residual) in rows.iter().zip(residuals) {
            for &(v, w) in &row.vertices {
                for k in 0..4 {
                    right[v as usize * 4 + k] += row.weight * w * row.colour[k] * residual[channel];
                }
            }
        }
        let dot = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f64>();
        let mut x = vec![0.0; n];
        let (mut r, mut p, mut ap) = (right.clone(), right, vec![0.0; n]);
        let start = dot(&r, &r);
        let mut rr = start;
        for _ in 0..STEPS {
            if rr <= start * 1e-12 {
                break;
            }
            self.normal(rows, &p, &mut ap);
            let alpha = rr / dot(&p, &ap);
            for i in 0..n {
                x[i] += alpha * p[i];
                r[i] -= alpha * ap[i];
            }
            let next = dot(&r, &r);
            let beta = next / rr;
            for i in 0..n {
                p[i] = r[i] + beta * p[i];
            }
            rr = next;
        }
        x
    }

    /// The samples' light as an offset at each place, the same for every luminance: bright and dark pixels side by side keep
    /// their contrast.
    fn light(&self, samples: &[Sample]) -> [Vec<f64>; 3] {
        let flat = Self { size: [self.size[0], self.size[1], 1], level: (0.0, 0.0), ..*self };
        if samples.iter().all(|s| s.light == [0.0; 3]) {
            return std::array::from_fn(|_| vec![0.0; flat.vertices()]);
        }
        let offset_alone = |s: &Sample| RowOf { colour: [0.0, 0.0, 0.0, 1.0], ..flat.row(s, &[0.0; 3]) };
        let rows: Vec<RowOf> = samples.iter().map(offset_alone).collect();
        let light: Vec<[f64; 3]> = samples.iter().map(|s| s.light.map(f64::from)).collect();
        std::array::from_fn(|c| flat.solve(&rows, &light, c).into_iter().skip(3).step_by(4).collect())
    }

    /// The regularised normal equations' matrix times `p`.
    fn normal(&self, rows: &[RowOf], p: &[f64], out: &mut [f64]) {
        for (out, p) in out.iter_mut().zip(p) {
            *out = TO_CLASS * p;
        }
        for row in rows {
            let mut value = 0.0;
            for &(v, w) in &row.vertices {
                let p = &p[v as usize * 4..][..4];
                value += w * (0..4).map(|k| p[k] * row.colour[k]).sum::<f64>();
            }
            value *= row.weight;
            for &(v, w) in &row.vertices {
                let out = &mut out[v as usize * 4..][..4];
                for (out, colour) in out.iter_mut().zip(row.colour) {
                    *out += value * w * colour;
                }
            }
        }
        let [nx, ny, nz] = self.size;
        let mut join = |a: usize, b: usize, strength: f64| {
            for k in 0..4 {
                let pull = strength * (p[a * 4 + k] - p[b * 4 + k]);
                out[a * 4 + k] += pull;
                out[b * 4 + k] -= pull;
            }
        };
        for y in 0..ny {
            for x in 0..nx {
                for z in 0..nz {
                    let v = (y * nx + x) * nz + z;
                    if x + 1 < nx {
                        join(v, v + nz, SMOOTH);
                    }
                    if y + 1 < ny {
                        join(v, v + nx * nz, SMOOTH);
                    }
                    if z + 1 < nz {
                        join(v, v + 1, SMOOTH_LUMA);
                    }
                }
            }
        }
    }

    /// The grid at more vertices over the picture, through a quadratic B-spline.
    fn refined(&self, coarse: &[f64]) -> Grid {
        let [nx, ny, nz] = self.size;
        let fine = |n: usize| (n - 1) * REFINE + 1;
        let taps = |i: usize, n: usize| {
            let at = i as f64 / REFINE as f64;
            let near = at.round();
            let t = at - near;
            let clamp = |k: f64| (near + k).clamp(0.0, (n - 1) as f64) as usize;
            [
                (clamp(-1.0), 0.5 * (0.5 - t) * (0.5 - t)),
                (clamp(0.0), 0.75 - t * t),
                (clamp(1.0), 0.5 * (0.5 + t) * (0.5 + t)),
            ]
        };
        let (fx, fy) = (fine(nx), fine(ny));
        let run = nz * COEFFICIENTS;
        let mut values = vec![0.0f32; fx * fy * run];
        let mut sum = vec![0.0f64; run];
        for (i, out) in values.chunks_exact_mut(run).enumerate() {
            sum.fill(0.0);
            for (y, wy) in taps(i / fx, ny) {
                for (x, wx) in taps(i % fx, nx) {
                    let from = &coarse[(y * nx + x) * run..][..run];
                    for (sum, from) in sum.iter_mut().zip(from) {
                        *sum += wx * wy * from;
                    }
                }
            }
            for (out, sum) in out.iter_mut().zip(&sum) {
                *out = *sum as f32;
            }
        }
        let density = self.density.map(|d| d * REFINE as f64);
        Grid { origin: self.origin, density, size: [fx, fy, nz], level: self.level, values }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn samples(delta: impl Fn([f32; 2], [f32; 3]) -> [f32; 3]) -> Vec<Sample> {
        let pixel = |i: usize| {
            let at = [(i % 96) as f32, (i / 96) as f32];
            let shade = ((i * 37) % 101) as f32 / 101.0;
            let rgb = [0.1 + 0.6 * shade, 0.2 + 0.5 * shade, 0.3 + 0.2 * (1.0 - shade)];
            Sample { at, rgb, delta: delta(at, rgb), light: [0.0; 3], weight: 1.0 }
        };
        (0..96 * 64).map(pixel).collect()
    }

    fn delta(grid: &Grid, at: [f32; 2], rgb: [f32; 3]) -> [f32; 3] {
        let mut slab = Vec::new();
        grid.slab(f64::from(at[1]), &mut slab);
        let (start, step) = grid.along();
        let mut delta = [0.0; 3];
        grid.add_delta(&slab, (start + step * f64::from(at[0])) as f32, &rgb, 1.0, &mut delta);
        delta
    }

    #[test]
    fn no_change_is_zero_exactly() {
        let grid = Grid::fit(&samples(|_, _| [0.0; 3]));
        assert!(grid.is_zero());
        assert_eq!(delta(&grid, [300.0, -5.0], [7.0, -1.0, 0.5]), [0.0; 3]);
    }

    #[test]
    fn an_offset_is_found_and_the_texture_kept_in_proportion() {
        let change = [0.1, -0.05, 0.02];
        let grid = Grid::fit(&samples(|_, _| change));
        for rgb in [[0.1, 0.2, 0.5], [0.4, 0.45, 0.4], [0.7, 0.7, 0.3]] {
            for (got, want) in delta(&grid, [40.0, 30.0], rgb).iter().zip(change) {
                // The prior of a brighter surface pulls a little.
                assert!((got - want).abs() < 0.02, "{got} for {want}");
            }
        }
    }

    #[test]
    fn shading_of_a_blue_surface_becomes_shading_of_a_red_one() {
        let (blue, red) = ([0.1, 0.2, 0.8], [0.7, 0.1, 0.1]);
        let m = shading(&blue, &red);
        // A fifth darker before, a fifth darker after.
        let darker = matrix::apply(&m, &blue.map(|v| -0.2 * v));
        for c in 0..3 {
            let after = red[c] - 0.2 * blue[c] + darker[c];
            assert!((after - 0.8 * red[c]).abs() < 1e-9, "{after}");
        }
        assert_eq!(shading(&blue, &blue), [[0.0; 3]; 3]);
    }

    #[test]
    fn a_change_that_drifts_over_the_picture_is_followed() {
        let change = |at: [f32; 2], _: [f32; 3]| [0.2 * at[0] / 96.0, 0.0, -0.2 * at[1] / 64.0];
        let grid = Grid::fit(&samples(change));
        for at in [[10.0, 10.0], [80.0, 20.0], [48.0, 50.0]] {
            let (got, want) = (delta(&grid, at, [0.4, 0.45, 0.4]), change(at, [0.0; 3]));
            for (got, want) in got.iter().zip(want) {
                assert!((got - want).abs() < 0.03, "{got} for {want} at {at:?}");
            }
        }
    }

    #[test]
    fn light_changes_slowly_and_leaves_the_contrast_of_neighbours() {
        let slow = |at: [f32; 2]| 0.3 * at[0] / 96.0 - 0.15;
        let mut samples = samples(|_, _| [0.0; 3]);
        for s in &mut samples {
            // Beside the slow part, one that is strong and goes with luminance, as texture does.
            let texture = s.rgb[0] - 0.4;
            s.light = [slow(s.at) - texture, 0.0, 0.0];
        }
        let grid = Grid::fit(&samples);
        for at in [[16.0, 10.0], [48.0, 50.0], [80.0, 30.0]] {
            let (dark, bright) = (delta(&grid, at, [0.15, 0.2, 0.4]), delta(&grid, at, [0.65, 0.6, 0.3]));
            assert!((dark[0] - slow(at)).abs() < 0.03, "{} for {} at {at:?}", dark[0], slow(at));
            assert!((dark[0] - bright[0]).abs() < 1e-5, "{} and {} at {at:?}", dark[0], bright[0]);
            assert_eq!(dark[1..], [0.0; 2]);
        }
    }

    /// Black to white: the offset does it, and noise is amplified no more than the limit.
    #[test]
    fn gains_are_bounded() {
        let black_to_white = |_: [f32; 2], rgb: [f32; 3]| rgb.map(|v| 40.0 * (v - 0.3) + 0.6);
        let affine = Affine::fit(&samples(black_to_white));
        let whole = matrix::add_scaled(&affine.linear, 1.0, &IDENTITY);
        let (squares, _) = matrix::eigen(&matrix::product(&matrix::transpose(&whole), &whole));
        assert!(squares.iter().all(|s| s.sqrt() <= GAINS.1 + 1e-9), "{squares:?}");
    }

    #[test]
    fn a_mean_of_grids_does_the_mean_of_what_they_do() {
        let darker =
            samples(|_, _| [0.0; 3]).into_iter().map(|s| Sample { rgb: s.rgb.map(|v| v * 0.5), ..s });
        let darker: Vec<Sample> = darker.map(|s| Sample { delta: s.rgb.map(|v| -0.4 * v), ..s }).collect();
        let a = Grid::fit(&samples(|at, rgb| [0.3 - 0.4 * rgb[0], 0.1 * at[0] / 96.0, 0.0]));
        let b = Grid::fit(&darker);
        // The second picture lies half as large on this one, and 10 to the right.
        let place = [-5.0, 0.5, 3.0, 1.0];
        let mean = Grid::mean(&[(3.0, Some(&a), [0.0, 1.0, 0.0, 1.0]), (1.0, Some(&b), place)]).unwrap();
        for (at, rgb) in
            [([20.0, 20.0], [0.3, 0.35, 0.45]), ([70.0, 50.0], [0.6, 0.6, 0.4]), ([40.0, 5.0], [0.2; 3])]
        {
            let (da, db) = (delta(&a, at, rgb), delta(&b, [0.5 * at[0] - 5.0, 3.0 + at[1]], rgb));
            for (c, got) in delta(&mean, at, rgb).into_iter().enumerate() {
                // Between vertices and levels of either the other is interpolated anew.
                assert!((got - (0.75 * da[c] + 0.25 * db[c])).abs() < 2e-3, "{got}, {} and {}", da[c], db[c]);
            }
        }
        let alone = Grid::mean(&[(2.0, Some(&a), [0.0, 1.0, 0.0, 1.0]), (0.0, Some(&b), place)]).unwrap();
        assert_eq!(alone.values, a.values);
        let half = Grid::mean(&[(1.0, Some(&a), [0.0, 1.0, 0.0, 1.0]), (1.0, None, place)]).unwrap();
        for (half, whole) in
            delta(&half, [33.0, 21.0], [0.4; 3]).into_iter().zip(delta(&a, [33.0, 21.0], [0.4; 3]))
        {
            assert!((half - 0.5 * whole).abs() < 1e-3, "{half} is not half of {whole}");
        }
        assert!(Grid::mean(&[(1.0, None, place)]).is_none());
    }

    #[test]
    fn values_far_from_the_fit_give_finite_changes() {
        let grid = Grid::fit(&samples(|_, rgb| rgb.map(|v| 0.3 - v * 0.2)));
        for rgb in [[1e4, 1e4, 1e4], [-50.0, 3.0, 0.0]] {
            assert!(delta(&grid, [1e6, -1e6], rgb).iter().all(|v| v.is_finite()));
        }
    }
}
