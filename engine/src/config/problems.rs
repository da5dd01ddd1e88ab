//! What went wrong with this node's identity or roles and was not answered to anybody: kept for
//! `status` and `doctor` until it is over.

use std::fs::File;
use std::io::{self, Read};

use super::Home;
use super::home::write_atomic;

/// Longest note, in bytes.
const NOTE_BYTES_MAX: usize = 1024;

/// What a note is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Topic {
    /// The certificate is not renewed.
    Renewal,
    /// The roles are not those of others.
    Roles,
}

impl Topic {
    /// All of them.
    pub const ALL: [Self; 2] = [Self::Renewal, Self::Roles];

    /// Its word, in the names of files and of checks.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Renewal => "renewal",
            Self::Roles => "roles",
        }
    }
}

impl Home {
    fn problem_file(&self, topic: Topic) -> std::path::PathBuf {
        self.state_dir().join(format!("{}.problem", topic.as_str()))
    }

    /// Notes what is wrong, in place of an older note; `None` takes that away.
    ///
    /// # Errors
    /// The system's.
    pub fn note_problem(&self, topic: Topic, text: Option<&str>) -> io::Result<()> {
        let path = self.problem_file(topic);
        if self.problem(topic).as_deref() == text {
            return Ok(());
        }
        match text {
            Some(text) => {
                let end = text.floor_char_boundary(NOTE_BYTES_MAX);
                write_atomic(&path, &text.as_bytes()[..end])
            }
            None => std::fs::remove_file(&path),
        }
    }

    /// What is noted.
    pub fn problem(&self, topic: Topic) -> Option<String> {
        let mut text = String::new();
        let file = File::open(self.problem_file(topic)).ok()?;
        file.take(NOTE_BYTES_MAX as u64).read_to_string(&mut text).ok()?;
        Some(text).filter(|text| !text.is_empty())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_problem_is_noted_until_it_is_over() {
        let dir = tempfile::tempdir().expect("a directory");
        let home = Home::at(dir.path());
        assert_eq!(home.problem(Topic::Roles), None);
        home.note_problem(Topic::Roles, None).expect("nothing to take away");
        home.note_problem(Topic::Roles, Some("two of version 3")).expect("noted");
        home.note_problem(Topic::Renewal, Some(&"ä".repeat(1000))).expect("noted");
        assert_eq!(home.problem(Topic::Roles).as_deref(), Some("two of version 3"));
        assert_eq!(home.problem(Topic::Renewal).map(|it| it.len()), Some(NOTE_BYTES_MAX));
        home.note_problem(Topic::Roles, None).expect("taken away");
        assert_eq!(home.problem(Topic::Roles), None);
    }
}
