//! Records: how a result was made, beside it and inside it, so that it can be told, and made again bit for bit.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufReader, Read};
use std::path::{Component, Path, PathBuf};

use serde::{Deserialize, Serialize, Serializer};
use sha2::{Digest, Sha256};

use crate::image::{Picture, RECORD_KEYWORD, Samples};
use crate::model::Model;
use crate::nn::Precision;
use crate::{Error, Result};

/// The form of records that this library writes and reads.
pub const FORMAT: u32 = 1;

/// Far above any record: a few kilobytes.
const MAX_RECORD: u64 = 1 << 20;

/// A file that went into a result.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Input {
    /// Relative to the record's folder, or absolute; in a record inside a picture, its name alone.
    #[serde(serialize_with = "as_text")]
    pub file: PathBuf,
    /// SHA-256 of the file in hexadecimal.
    pub sha256: String,
}

/// A path as JSON can hold it: what of a name is no Unicode is lost, and not found again.
fn as_text<S: Serializer>(path: &Path, to: S) -> std::result::Result<S::Ok, S::Error> {
    to.serialize_str(&path.to_string_lossy())
}

/// Which weights made a result.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ModelId {
    pub name: String,
    pub version: String,
    pub licence: String,
    /// SHA-256 of the model file.
    pub sha256: String,
}

impl ModelId {
    pub fn of(model: &Model) -> Self {
        let metadata = model.metadata();
        Self {
            name: metadata.name.clone(),
            version: metadata.version.clone(),
            licence: metadata.licence.clone(),
            sha256: model.hash().to_owned(),
        }
    }
}

/// What was written.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Output {
    #[serde(serialize_with = "as_text")]
    pub file: PathBuf,
    /// [`pixel_hash`] of the picture before it was encoded.
    pub pixels: String,
    /// Whether the file's format keeps those pixels; JPEG does not.
    pub lossless: bool,
}

/// Where a picture comes from, in IPTC's words: a term of <http://cv.iptc.org/newscodes/digitalsourcetype/>.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum DigitalSource {
    /// "Composite including generative AI elements": the content's pixels and the network's together.
    #[serde(rename = "http://cv.iptc.org/newscodes/digitalsourcetype/compositeWithTrainedAlgorithmicMedia")]
    CompositeWithTrainedAlgorithmicMedia,
    /// "Created using Generative AI": nothing but the network's pixels.
    #[serde(rename = "http://cv.iptc.org/newscodes/digitalsourcetype/trainedAlgorithmicMedia")]
    TrainedAlgorithmicMedia,
    /// "Algorithmically-altered media": colours shifted by a formula, without a trained network.
    #[serde(rename = "http://cv.iptc.org/newscodes/digitalsourcetype/algorithmicallyEnhanced")]
    AlgorithmicallyEnhanced,
}

impl DigitalSource {
    pub fn uri(self) -> String {
        match serde_json::to_value(self) {
            Ok(serde_json::Value::String(uri)) => uri,
            _ => unreachable!("a unit variant is written as its name"),
        }
    }
}

/// How a result was made. It holds no date and no user's name: the same job gives the same record.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Record {
    /// [`FORMAT`]
    pub format: u32,
    /// The version of ca2sis.
    pub ca2sis: String,
    /// "restyle" or "synthesize".
    pub command: String,
    pub digital_source_type: DigitalSource,
    pub model: ModelId,
    /// As `--device` takes it: "cpu", "cuda:0".
    pub device: String,
    /// What the device calls itself.
    pub device_name: String,
    /// As `--precision` takes it; "f32" in a record that does not say.
    #[serde(default = "f32_by_name")]
    pub precision: String,
    /// By the option that named them: "content", "labels", "reference", ...
    pub inputs: BTreeMap<String, Input>,
    /// Every other option by its name, those not given with their defaults.
    pub options: BTreeMap<String, Vec<String>>,
    /// Inputs whose label map nobody gave, so that the model's labeler proposed it, with its confidence, 0 to 1; none where that is
    /// no number.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub proposed_labels: BTreeMap<String, Option<f32>>,
    /// Who holds the rights to the reference, as the user said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rights: Option<String>,
    /// What the result does not show by itself, class names by fact: "missing" from the reference, say.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub notes: BTreeMap<String, Vec<String>>,
    pub output: Output,
}

fn f32_by_name() -> String {
    Precision::F32.to_string()
}

impl Record {
    /// Reads a record: a JSON file, or a PNG file with one inside.
    ///
    /// # Errors
    /// [`Error::Io`] when it cannot be read; [`Error::Format`] when it is neither, or of another format version.
    pub fn read(path: impl AsRef<Path>) -> Result<Self> {
        let path = path.as_ref();
        let io = |e| Error::io(path, e);
        let mut file = BufReader::new(File::open(path).map_err(io)?);
        let mut start = Vec::new();
        file.by_ref().take(8).read_to_end(&mut start).map_err(io)?;
        let json = if start.starts_with(b"\x89PNG") {
            Self::inside(path)?
        } else {
            let mut text = start;
            file.take(MAX_RECORD).read_to_end(&mut text).map_err(io)?;
            String::from_utf8(text)
                .map_err(|_| Error::format(path, "no record: neither JSON nor a PNG file"))?
        };
        #[derive(Deserialize)]
        struct Form {
            format: u32,
        }
        let wrong = |e: serde_json::Error| Error::format(path, format!("no record of ca2sis: {e}"));
        let Form { format } = serde_json::from_str(&json).map_err(wrong)?;
        if format != FORMAT {
            return Err(Error::format(
                path,
                format!("a record of format {format}, but this version of ca2sis reads {FORMAT}"),
            ));
        }
        serde_json::from_str(&json).map_err(wrong)
    }

    fn inside(path: &Path) -> Result<String> {
        let io = |e| Error::io(path, e);
        let file = BufReader::new(File::open(path).map_err(io)?);
        let wrong = |e: png::DecodingError| Error::format(path, format!("damaged PNG: {e}"));
        let decoder = png::Decoder::new_with_limits(file, png::Limits { bytes: 64 << 20 });
        let reader = decoder.read_info().map_err(wrong)?;
        let chunk = reader.info().utf8_text.iter().find(|c| c.keyword == RECORD_KEYWORD);
        let chunk = chunk.ok_or_else(|| {
            Error::format(
                path,
                "a PNG file without a record of ca2sis inside; is there one beside it (.json)?",
            )
        })?;
        chunk.get_text().map_err(|e| Error::format(path, format!("damaged record: {e}")))
    }

    /// The record as it stands in the folder of `path`: its files' names relative to that folder.
    pub fn beside(&self, path: &Path) -> Self {
        let folder = folder_of(path);
        self.with_files(|file| relative(file, &folder))
    }

    /// The record as it stands inside a picture: files by their names alone, so that no one's folders are told.
    pub fn without_folders(&self) -> Self {
        self.with_files(|file| file.file_name().map_or(file.to_owned(), PathBuf::from))
    }

    fn with_files(&self, name: impl Fn(&Path) -> PathBuf) -> Self {
        let mut record = self.clone();
        record.output.file = name(&record.output.file);
        for input in record.inputs.values_mut() {
            input.file = name(&input.file);
        }
        record
    }

    /// Where an input of a record that was read from `path` is now.
    pub fn resolve(path: &Path, file: &Path) -> PathBuf {
        path.parent().unwrap_or(Path::new("")).join(file)
    }

    pub fn to_json(&self) -> String {
        serde_json::to_string_pretty(self).expect("a record has only texts as keys") + "\n"
    }

    /// The XMP packet: the picture's digital source type (IPTC Photo Metadata Standard), the tool, and the record.
    pub fn to_xmp(&self) -> String {
        let escape = |s: &str| {
            s.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
        };
        let json = serde_json::to_string(&self.without_folders()).expect("a record has only texts as keys");
        format!(
            "<?xpacket begin=\"\u{feff}\" id=\"W5M0MpCehiHzreSzNTczkc9d\"?>\n\
             <x:xmpmeta xmlns:x=\"adobe:ns:meta/\">\n\
             <rdf:RDF xmlns:rdf=\"http://www.w3.org/1999/02/22-rdf-syntax-ns#\">\n\
             <rdf:Description rdf:about=\"\"\n\
             xmlns:xmp=\"http://ns.adobe.com/xap/1.0/\"\n\
             xmlns:Iptc4xmpExt=\"http://iptc.org/std/Iptc4xmpExt/2008-02-29/\"\n\
             xmlns:ca2sis=\"urn:x-ca2sis:record:1\"\n\
             xmp:CreatorTool=\"ca2sis {}\"\n\
             Iptc4xmpExt:DigitalSourceType=\"{}\">\n\
             <ca2sis:record>{}</ca2sis:record>\n\
             </rdf:Description>\n</rdf:RDF>\n</x:xmpmeta>\n<?xpacket end=\"w\"?>",
            escape(&self.ca2sis),
            self.digital_source_type.uri(),
            escape(&json),
        )
    }

    /// Puts the record into a picture's metadata, to be written with it.
    pub fn put_into(&self, picture: &mut Picture) {
        let json = serde_json::to_string(&self.without_folders()).expect("a record has only texts as keys");
        let xmp = self.to_xmp();
        let metadata = picture.metadata_mut();
        metadata.record = Some(json.into());
        metadata.xmp = Some(xmp.into());
    }
}

fn folder_of(path: &Path) -> PathBuf {
    path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new(".")).to_owned()
}

/// `file` as seen from `folder`, where both exist; else as it stands.
fn relative(file: &Path, folder: &Path) -> PathBuf {
    let name = file.file_name();
    let (Ok(folder), Ok(at), Some(name)) = (folder.canonicalize(), folder_of(file).canonicalize(), name)
    else {
        return file.to_owned();
    };
    let shared = folder.components().zip(at.components()).take_while(|(a, b)| a == b).count();
    // Nothing but the root in common: another volume, say.
    if !at.components().take(shared).any(|c| matches!(c, Component::Normal(_))) {
        return at.join(name);
    }
    let up = folder.components().skip(shared).map(|_| Component::ParentDir);
    up.chain(at.components().skip(shared)).collect::<PathBuf>().join(name)
}

/// SHA-256 of a file in hexadecimal.
pub fn file_hash(path: &Path) -> Result<String> {
    let io = |e| Error::io(path, e);
    let mut file = File::open(path).map_err(io)?;
    let mut hash = Sha256::new();
    let mut buffer = vec![0; 1 << 20];
    loop {
        match file.read(&mut buffer).map_err(io)? {
            0 => return Ok(hex(&hash.finalize())),
            n => hash.update(&buffer[..n]),
        }
    }
}

/// SHA-256 of a picture's size, channels, sample type and samples (little endian): equal pixels have equal hashes, whatever
/// file they are in.
pub fn pixel_hash(picture: &Picture) -> String {
    let mut hash = Sha256::new();
    let kind = match picture.samples() {
        Samples::U8(_) => "u8",
        Samples::U16(_) => "u16",
        Samples::F32(_) => "f32",
    };
    hash.update(format!("{} {} {} {kind}\n", picture.width(), picture.height(), picture.channels()));
    match picture.samples() {
        Samples::U8(v) => hash.update(v),
        Samples::U16(v) => v.chunks(1 << 14).for_each(|v| {
            hash.update(v.iter().flat_map(|s| s.to_le_bytes()).collect::<Vec<_>>());
        }),
        Samples::F32(v) => v.chunks(1 << 14).for_each(|v| {
            hash.update(v.iter().flat_map(|s| s.to_le_bytes()).collect::<Vec<_>>());
        }),
    }
    hex(&hash.finalize())
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_named_as_seen_from_the_record() {
        let folder = tempfile::tempdir().unwrap();
        let at = |p: &str| folder.path().join(p);
        std::fs::create_dir_all(at("in/deep")).unwrap();
        std::fs::create_dir_all(at("out")).unwrap();
        let seen = |file: &str| relative(&at(file), &at("out"));
        assert_eq!(seen("in/deep/a.png"), Path::new("../in/deep/a.png"));
        assert_eq!(seen("out/a.png"), Path::new("a.png"));
        assert_eq!(seen("a.png"), Path::new("../a.png"));
        assert_eq!(
            Record::resolve(&at("out/a.png.json"), &seen("in/deep/a.png")),
            at("out/../in/deep/a.png")
        );
    }

    #[test]
    fn records_are_read_without_proposed_labels_and_with_a_confidence_that_is_no_number() {
        let proposed = [("content".to_owned(), Some(0.951_234_6)), ("reference".to_owned(), None)];
        let record = Record {
            format: FORMAT,
            ca2sis: "0.1.0".into(),
            command: "restyle".into(),
            digital_source_type: DigitalSource::AlgorithmicallyEnhanced,
            model: ModelId {
                name: "m".into(),
                version: "1".into(),
                licence: "CC0-1.0".into(),
                sha256: "0".into(),
            },
            device: "cpu".into(),
            device_name: "a CPU".into(),
            precision: "f32".into(),
            inputs: BTreeMap::new(),
            options: BTreeMap::new(),
            proposed_labels: BTreeMap::from(proposed),
            rights: None,
            notes: BTreeMap::new(),
            output: Output { file: "out.png".into(), pixels: "0".into(), lossless: true },
        };
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("out.png.json");
        std::fs::write(&path, record.to_json()).unwrap();
        assert_eq!(Record::read(&path).unwrap(), record);

        let older = Record { proposed_labels: BTreeMap::new(), ..record };
        assert!(!older.to_json().contains("proposed_labels"));
        std::fs::write(&path, older.to_json()).unwrap();
        assert_eq!(Record::read(&path).unwrap(), older);
    }

    #[test]
    fn pixels_hash_by_what_they_are() {
        let picture = |w, h, s| pixel_hash(&Picture::new(w, h, 1, s).unwrap());
        let first = picture(2, 1, Samples::U8(vec![1, 2]));
        assert_eq!(first, picture(2, 1, Samples::U8(vec![1, 2])));
        assert_ne!(first, picture(1, 2, Samples::U8(vec![1, 2])));
        assert_ne!(first, picture(2, 1, Samples::U16(vec![1, 2])));
        assert_ne!(picture(1, 1, Samples::F32(vec![0.0])), picture(1, 1, Samples::F32(vec![-0.0])));
    }

    #[test]
    fn source_types_are_iptc_terms() {
        let uri = DigitalSource::CompositeWithTrainedAlgorithmicMedia.uri();
        assert_eq!(
            uri,
            "http://cv.iptc.org/newscodes/digitalsourcetype/compositeWithTrainedAlgorithmicMedia"
        );
    }
}
