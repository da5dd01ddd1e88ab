//! What a sample directory says of a flow: how much of it is new, and how small that gets, by the
//! engine's own cutters and encoders.

use std::collections::HashSet;
use std::fs::File;
use std::io::Read as _;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use portway::base::limits::CHUNK_BYTES_MAX;
use portway::chunk::{Cuts, Cutter};
use portway::encode::{CONTENT_BYTES_MAX, Encoder};

use super::unit::{Share, Size};
use super::workload::{Fraction, Workload};

/// What was found, in bytes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Sample {
    /// All content.
    pub(crate) bytes: u64,
    /// In chunks that are neither in the base nor earlier in the sample.
    pub(crate) new_bytes: u64,
    /// Those, encoded.
    pub(crate) encoded_bytes: u64,
}

/// Cuts a sample, and a base that the receiver already has.
///
/// # Errors
/// If a file cannot be read, or the sample has no content.
pub(crate) fn measure(sample: &Path, base: Option<&Path>) -> Result<Sample> {
    let mut cutting = Cutting::default();
    if let Some(base) = base {
        cutting.tree(base, false)?;
    }
    cutting.tree(sample, true)?;
    cutting.encode();
    ensure!(
        cutting.sample.bytes > 0,
        "{} has no content to measure: give a directory with a typical checkpoint or data set",
        sample.display()
    );
    Ok(cutting.sample)
}

impl Sample {
    /// Puts what was found where the workload says `measured`; the sentence that tells it.
    ///
    /// # Errors
    /// If nothing there says so.
    pub(crate) fn apply(&self, workload: &mut Workload) -> Result<String> {
        let changed = Share(self.new_bytes as f64 / self.bytes as f64);
        let encoded = Share(self.encoded_bytes as f64 / self.new_bytes.max(1) as f64);
        // A flow moves something: what is found again costs messages too.
        let at_least = |share: Share| Fraction::Known(Share(share.0.max(0.001)));
        let mut names = Vec::new();
        for flow in &mut workload.flows {
            let (was, now) = (flow.changed, flow.encoded);
            if was == Fraction::Measured {
                flow.changed = at_least(changed);
            }
            if now == Fraction::Measured {
                flow.encoded = at_least(encoded);
            }
            if was == Fraction::Measured || now == Fraction::Measured {
                names.push(format!("`{}`", flow.name));
            }
        }
        ensure!(
            !names.is_empty(),
            "--sample was given, and no flow has `changed` or `encoded` = \"measured\""
        );
        Ok(format!(
            "{}: of a sample of {} {changed} was new, and {encoded} of that was left when encoded.",
            names.join(", "),
            Size(self.bytes as f64)
        ))
    }
}

#[derive(Default)]
struct Cutting {
    known: HashSet<[u8; 32]>,
    sample: Sample,
    /// New content, as it would be gathered in one message.
    message: Vec<u8>,
    encoder: Encoder,
    room: Vec<u8>,
}

impl Cutting {
    fn tree(&mut self, directory: &Path, counts: bool) -> Result<()> {
        let shown = directory.display();
        let list = || -> std::io::Result<Vec<PathBuf>> {
            std::fs::read_dir(directory)?.map(|entry| Ok(entry?.path())).collect()
        };
        let mut paths = list().with_context(|| format!("list {shown}"))?;
        paths.sort();
        for path in paths {
            let kind = std::fs::symlink_metadata(&path)?.file_type();
            if kind.is_dir() {
                self.tree(&path, counts)?;
            } else if kind.is_file() {
                self.file(&path, counts).with_context(|| format!("read {}", path.display()))?;
            }
        }
        Ok(())
    }

    fn file(&mut self, path: &Path, counts: bool) -> Result<()> {
        let mut file = File::open(path)?;
        let len = file.metadata()?.len();
        let mut buffer = Vec::new();
        let mut fill = |buffer: &mut Vec<u8>| {
            let wanted = (2 * CHUNK_BYTES_MAX).saturating_sub(buffer.len());
            file.by_ref().take(wanted as u64).read_to_end(buffer).map(|read| read < wanted)
        };
        let mut last = fill(&mut buffer)?;
        let name = path.file_name().map(|name| name.as_bytes().to_vec()).unwrap_or_default();
        let mut cuts = Cuts::new(Cutter::choose(&name, len, &buffer), len);
        let (mut offset, mut at) = (0, 0);
        loop {
            while let Some(chunk) = cuts.next(offset, &buffer[at..], last) {
                let bytes = &buffer[at..at + chunk];
                let new = self.known.insert(*blake3::hash(bytes).as_bytes());
                if counts {
                    self.sample.bytes += chunk as u64;
                }
                if counts && new {
                    self.sample.new_bytes += chunk as u64;
                    if self.message.len() + chunk > CONTENT_BYTES_MAX {
                        self.encode();
                    }
                    self.message.extend_from_slice(bytes);
                }
                offset += chunk as u64;
                at += chunk;
            }
            buffer.drain(..at);
            at = 0;
            if last {
                return Ok(());
            }
            last = fill(&mut buffer)?;
        }
    }

    fn encode(&mut self) {
        let content = [self.message.as_slice()];
        self.room.resize(CONTENT_BYTES_MAX, 0);
        let encoding = self.encoder.probe(&content);
        let encoded = self.encoder.encode(encoding, &content, None, &mut self.room);
        self.sample.encoded_bytes += encoded.map_or(self.message.len(), |it| it.len) as u64;
        self.message.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::{self, Kind};
    use crate::rng::Rng;

    #[test]
    fn noise_is_new_once_and_does_not_get_smaller() {
        let dir = tempfile::tempdir().unwrap();
        let mut noise = vec![0; 3 << 20];
        Rng::new(1).fill(&mut noise);
        std::fs::write(dir.path().join("a"), &noise).unwrap();
        let once = measure(dir.path(), None).unwrap();
        assert_eq!(once, Sample { bytes: 3 << 20, new_bytes: 3 << 20, encoded_bytes: 3 << 20 });
        std::fs::create_dir(dir.path().join("more")).unwrap();
        std::fs::write(dir.path().join("more/b"), &noise).unwrap();
        let twice = measure(dir.path(), None).unwrap();
        assert_eq!(twice, Sample { bytes: 6 << 20, ..once });
        let again = measure(dir.path(), Some(dir.path())).unwrap();
        assert_eq!(again, Sample { bytes: 6 << 20, new_bytes: 0, encoded_bytes: 0 });
    }

    #[test]
    fn the_next_checkpoint_is_new_where_its_data_set_says() {
        let dir = tempfile::tempdir().unwrap();
        let [first, next] = ["first", "next"].map(|name| dir.path().join(name));
        data::simple(Kind::Ckpt, first.clone(), 16 << 20, 0, 1).unwrap();
        let made = data::simple(Kind::CkptNext, next.clone(), 16 << 20, 0, 1).unwrap();
        let found = measure(&next, Some(&first)).unwrap();
        assert_eq!(found.bytes, made.bytes);
        let excess = found.new_bytes as f64 / made.new_bytes as f64;
        assert!((1.0..1.2).contains(&excess), "chunks at the edges are new too: {excess}");
        let encoded = found.encoded_bytes as f64 / found.new_bytes as f64;
        assert!((0.5..0.9).contains(&encoded), "floats: {encoded}");
    }

    #[test]
    fn a_directory_without_content_is_an_error() {
        let dir = tempfile::tempdir().unwrap();
        let error = measure(dir.path(), None).unwrap_err().to_string();
        assert!(error.ends_with("give a directory with a typical checkpoint or data set"));
    }
}
