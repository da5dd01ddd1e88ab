//! What a reader sees at a target path while transfers die: whole objects of one version or none.

use std::fs::File;
use std::io::ErrorKind;
use std::path::Path;

use anyhow::{Context, Result};

use crate::compare::{same_content, shown};

/// Everything visible below `target` that is neither in one nor in another of `versions`.
///
/// A target that does not exist shows nothing, and nothing is wrong with that. Objects may come
/// and go while this looks: a file is judged by what its open descriptor reads.
pub(crate) fn wrong(target: &Path, versions: &[&Path]) -> Result<Vec<String>> {
    let mut found = Vec::new();
    look(target, Path::new(""), versions, &mut found)?;
    Ok(found)
}

fn look(target: &Path, path: &Path, versions: &[&Path], found: &mut Vec<String>) -> Result<()> {
    let here = if path.as_os_str().is_empty() { target.to_owned() } else { target.join(path) };
    let meta = match std::fs::symlink_metadata(&here) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
        meta => meta.with_context(|| format!("look at {}", shown(&here)))?,
    };
    let as_in = |check: &dyn Fn(&Path) -> bool| versions.iter().any(|root| check(&root.join(path)));
    let right = if meta.is_dir() {
        as_in(&|version| std::fs::symlink_metadata(version).is_ok_and(|meta| meta.is_dir()))
    } else if meta.is_symlink() {
        let text = std::fs::read_link(&here);
        as_in(&|version| matches!((&text, std::fs::read_link(version)), (Ok(a), Ok(b)) if *a == b))
    } else if meta.is_file() {
        match File::open(&here) {
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
            file => {
                let file = file.with_context(|| format!("open {}", shown(&here)))?;
                as_in(&|version| is_content(&file, version).unwrap_or(false))
            }
        }
    } else {
        let kind = meta.file_type();
        as_in(&|version| {
            std::fs::symlink_metadata(version).is_ok_and(|meta| meta.file_type() == kind)
        })
    };
    if !right {
        found.push(format!("{}: visible, and of no version", shown(path)));
    } else if meta.is_dir() {
        for entry in std::fs::read_dir(&here).with_context(|| format!("list {}", shown(&here)))? {
            look(target, &path.join(entry?.file_name()), versions, found)?;
        }
    }
    Ok(())
}

fn is_content(file: &File, version: &Path) -> std::io::Result<bool> {
    let other = File::open(version)?;
    let metadata = other.metadata()?;
    let same_length = metadata.is_file() && metadata.len() == file.metadata()?.len();
    Ok(same_length && same_content(file, &other)?)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn only_whole_objects_of_a_version_may_be_visible() {
        let directory = tempfile::tempdir().unwrap();
        let at = |name: &str| directory.path().join(name);
        for (root, content) in [("old", "old!"), ("new", "new!"), ("target", "new!")] {
            fs::create_dir(at(root)).unwrap();
            fs::write(at(root).join("one"), content).unwrap();
            fs::write(at(root).join("two"), content).unwrap();
        }
        let (old, new) = (at("old"), at("new"));
        let versions = [old.as_path(), new.as_path()];
        fs::write(at("target").join("two"), "old!").unwrap();
        assert!(wrong(&at("target"), &versions).unwrap().is_empty());
        assert!(wrong(&at("nowhere"), &versions).unwrap().is_empty());
        fs::write(at("target").join("two"), "ne").unwrap();
        fs::write(at("target").join(".two.part"), "").unwrap();
        assert_eq!(wrong(&at("target"), &versions).unwrap().len(), 2);
    }
}
