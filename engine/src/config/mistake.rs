//! What can be wrong with the configuration, and how it is told.

use std::fmt;
use std::io;
use std::path::PathBuf;

use super::setting::Wrong;

/// Largest `portway.toml`, in bytes.
pub(super) const FILE_BYTES_MAX: u64 = 4 << 20;

/// One thing that is wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mistake {
    /// Where it was set.
    pub place: Place,
    /// Which field, as `limits.slab_mib`.
    pub field: String,
    /// What is wrong with it.
    pub wrong: Wrong,
}

/// Where a mistake is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Place {
    /// In the file.
    File {
        /// Its path.
        path: PathBuf,
        /// The line, from 1; 0 if it is not known.
        line: usize,
    },
    /// In an environment variable.
    Variable(String),
    /// In a flag.
    Flag,
}

/// `portway.toml:3: limits.slab_mib: 4 is not 16 to 65536 MiB`.
impl fmt::Display for Mistake {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.place {
            Place::File { path, line: 0 } => write!(f, "{}: ", path.display())?,
            Place::File { path, line } => write!(f, "{}:{line}: ", path.display())?,
            Place::Variable(name) => return write!(f, "{name}: {}", self.wrong),
            Place::Flag => f.write_str("--set ")?,
        }
        if self.field.is_empty() {
            write!(f, "{}", self.wrong)
        } else {
            write!(f, "{}: {}", self.field, self.wrong)
        }
    }
}

/// Why there are no options.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file is there and cannot be read.
    #[error("{} cannot be read: {source}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// The system's words.
        source: io::Error,
    },
    /// The file is too large to be a configuration.
    #[error("{} is larger than {FILE_BYTES_MAX} bytes", path.display())]
    Large {
        /// The file.
        path: PathBuf,
    },
    /// Values are wrong: all of them are listed, one a line.
    #[error("{}", list(mistakes))]
    Mistakes {
        /// What is wrong, in the order of the file, the environment, the flags.
        mistakes: Vec<Mistake>,
    },
}

impl ConfigError {
    /// What the system said, where the file could not be read: that may pass by itself.
    pub(super) fn of_system(&self) -> Option<&io::Error> {
        match self {
            Self::Read { source, .. } => Some(source),
            Self::Large { .. } | Self::Mistakes { .. } => None,
        }
    }
}

fn list(mistakes: &[Mistake]) -> String {
    match mistakes {
        [one] => one.to_string(),
        many => many.iter().fold(
            format!("{} mistakes in the configuration", many.len()),
            |text, mistake| {
                format!(
                    "{text}
  {mistake}"
                )
            },
        ),
    }
}
