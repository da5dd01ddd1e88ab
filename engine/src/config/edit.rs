//! Changes to `portway.toml` that keep what people wrote in it.

use std::io;
use std::path::PathBuf;

use toml_edit::{Array, DocumentMut, Item, Table, TableLike, Value};

use super::home::write_atomic;
use super::{Endpoint, Home, similar};
use crate::base::NodeName;

/// Why `portway.toml` was not changed.
#[derive(Debug, thiserror::Error)]
pub enum EditError {
    /// The file cannot be read, locked or written.
    #[error("{} cannot be changed: {source}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// The system's words.
        source: io::Error,
    },
    /// The file is not TOML, so nothing can be changed in it.
    #[error("{} is not TOML: {detail}", path.display())]
    Syntax {
        /// The file.
        path: PathBuf,
        /// The parser's words.
        detail: String,
    },
    /// `nodes` or the entry is there and not a table.
    #[error("{}: {field} is not a table", path.display())]
    Shape {
        /// The file.
        path: PathBuf,
        /// Which field.
        field: String,
    },
    /// No such node or link.
    #[error("no {what} {name} is known")]
    Unknown {
        /// `node` or `link`.
        what: &'static str,
        /// The name.
        name: String,
        /// Known names that look like it.
        similar: Vec<String>,
    },
}

/// Adds a node, or gives a known one other addresses. Comments and order stay. Returns whether the
/// node was known before.
///
/// # Errors
/// The file is not changed then.
pub fn add_node(home: &Home, name: &NodeName, addresses: &[Endpoint]) -> Result<bool, EditError> {
    let value = match addresses {
        [one] => Value::from(one.to_string()),
        many => Value::from(many.iter().map(ToString::to_string).collect::<Array>()),
    };
    edit(home, |path, document| {
        let shape = |field: &str| EditError::Shape { path: path.clone(), field: field.to_owned() };
        let mut parent = Table::new();
        parent.set_implicit(true);
        let nodes = document.entry("nodes").or_insert(Item::Table(parent));
        let nodes = nodes.as_table_like_mut().ok_or_else(|| shape("nodes"))?;
        let known = nodes.contains_key(name.as_str());
        let entry = nodes.entry(name.as_str()).or_insert(Item::Table(Table::new()));
        let entry = entry.as_table_like_mut().ok_or_else(|| shape(&format!("nodes.{name}")))?;
        replace(entry, "address", value);
        Ok(known)
    })
}

/// Removes a node.
///
/// # Errors
/// The file is not changed then.
pub fn remove_node(home: &Home, name: &NodeName) -> Result<(), EditError> {
    edit(home, |_, document| {
        let mut known = Vec::new();
        if let Some(nodes) = document.get_mut("nodes").and_then(Item::as_table_like_mut) {
            if nodes.remove(name.as_str()).is_some() {
                return Ok(());
            }
            known = nodes.iter().map(|(key, _)| key.to_owned()).collect();
        }
        let similar = similar(name.as_str(), known.iter().map(String::as_str));
        Err(EditError::Unknown { what: "node", name: name.to_string(), similar })
    })
}

/// Sets the most that this node sends over a link, in megabits per second, or lifts it.
///
/// # Errors
/// The file is not changed then.
pub fn set_limit(home: &Home, link: &str, mbps: Option<u64>) -> Result<(), EditError> {
    edit(home, |_, document| {
        let links = document.get_mut("links").and_then(Item::as_table_like_mut);
        let mut known = Vec::new();
        if let Some(links) = links {
            known = links.iter().map(|(key, _)| key.to_owned()).collect();
            if let Some(entry) = links.get_mut(link).and_then(Item::as_table_like_mut) {
                match mbps.map(|mbps| i64::try_from(mbps).unwrap_or(i64::MAX)) {
                    None => drop(entry.remove("limit_mbps")),
                    Some(mbps) => replace(entry, "limit_mbps", Value::from(mbps)),
                }
                return Ok(());
            }
        }
        let similar = similar(link, known.iter().map(String::as_str));
        Err(EditError::Unknown { what: "link", name: link.to_owned(), similar })
    })
}

/// Gives a field another value; the space and the comment around the old one stay.
fn replace(entry: &mut dyn TableLike, name: &str, value: Value) {
    match entry.get_mut(name).and_then(Item::as_value_mut) {
        Some(old) => {
            let decor = old.decor().clone();
            *old = value;
            *old.decor_mut() = decor;
        }
        None => drop(entry.insert(name, Item::Value(value))),
    }
}

fn edit<T>(
    home: &Home,
    change: impl FnOnce(&PathBuf, &mut DocumentMut) -> Result<T, EditError>,
) -> Result<T, EditError> {
    let path = home.config_file();
    let failed = |source| EditError::File { path: path.clone(), source };
    home.create().map_err(failed)?;
    // Two commands that change the file wait for each other; the lock ends with `dir`.
    let dir = std::fs::File::open(home.config_dir()).map_err(failed)?;
    rustix::fs::flock(&dir, rustix::fs::FlockOperation::LockExclusive)
        .map_err(|errno| failed(errno.into()))?;
    let text = match std::fs::read_to_string(&path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => String::new(),
        other => other.map_err(failed)?,
    };
    let mut document: DocumentMut =
        text.parse().map_err(|error: toml_edit::TomlError| EditError::Syntax {
            path: path.clone(),
            detail: error.message().lines().collect::<Vec<_>>().join(", "),
        })?;
    // Where there is nothing but comments, they are the document's end, and new tables go before it.
    let comments =
        document.is_empty().then(|| document.trailing().as_str().unwrap_or("").to_owned());
    let result = change(&path, &mut document)?;
    let mut text = document.to_string();
    if let Some(comments) = comments.filter(|comments| !comments.trim().is_empty()) {
        let added = text.strip_suffix(comments.as_str()).unwrap_or(&text).trim_start();
        text = format!("{}\n\n{added}", comments.trim_end());
    }
    write_atomic(&path, text.as_bytes()).map_err(failed)?;
    Ok(result)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn home_with(text: &str) -> (tempfile::TempDir, Home) {
        let dir = tempfile::tempdir().expect("a directory");
        let home = Home::at(dir.path());
        std::fs::write(home.config_file(), text).expect("written");
        (dir, home)
    }

    fn text(home: &Home) -> String {
        std::fs::read_to_string(home.config_file()).expect("read")
    }

    fn name(text: &str) -> NodeName {
        text.parse().expect("a name")
    }

    fn endpoint(text: &str) -> Endpoint {
        text.parse().expect("an endpoint")
    }

    #[test]
    fn adding_and_removing_nodes_keeps_comments_and_order() {
        let (_dir, home) = home_with(
            "# ours\n[limits]\nslab_mib = 64 # small machine\n\n[nodes.a] # rack 1\naddress = \"1.1.1.1:1\" # uplink\n",
        );
        assert!(add_node(&home, &name("a"), &[endpoint("2.2.2.2:2")]).expect("known"));
        assert!(
            !add_node(&home, &name("b"), &[endpoint("b.example:2"), endpoint("[::1]:2")])
                .expect("new")
        );
        assert_eq!(
            text(&home),
            "# ours\n[limits]\nslab_mib = 64 # small machine\n\n[nodes.a] # rack 1\naddress = \"2.2.2.2:2\" # uplink\n\
             \n[nodes.b]\naddress = [\"b.example:2\", \"[::1]:2\"]\n",
        );
        remove_node(&home, &name("b")).expect("removed");
        assert!(text(&home).ends_with("\"2.2.2.2:2\" # uplink\n"));
    }

    #[test]
    fn the_first_node_makes_the_file_and_the_last_one_leaves_it_valid() {
        let dir = tempfile::tempdir().expect("a directory");
        let home = Home::at(dir.path().join("home"));
        assert!(!add_node(&home, &name("a"), &[endpoint("1.1.1.1:1")]).expect("new"));
        assert_eq!(text(&home), "[nodes.a]\naddress = \"1.1.1.1:1\"\n");
        remove_node(&home, &name("a")).expect("removed");
        assert_eq!(text(&home), "");
    }

    #[test]
    fn comments_of_an_otherwise_empty_file_stay_at_its_head() {
        let (_dir, home) = home_with("# mine\n\n");
        assert!(!add_node(&home, &name("a"), &[endpoint("1.1.1.1:1")]).expect("new"));
        assert_eq!(text(&home), "# mine\n\n[nodes.a]\naddress = \"1.1.1.1:1\"\n");
    }

    #[test]
    fn a_limit_is_set_changed_and_lifted() {
        let bare = "[links.wan]\nsites = [\"a\", \"b\"] # leased\nrate_mbps = 1000\n";
        let (_dir, home) = home_with(bare);
        set_limit(&home, "wan", Some(200)).expect("set");
        assert_eq!(text(&home), format!("{bare}limit_mbps = 200\n"));
        set_limit(&home, "wan", Some(300)).expect("changed");
        assert_eq!(text(&home), format!("{bare}limit_mbps = 300\n"));
        set_limit(&home, "wan", None).expect("lifted");
        assert_eq!(text(&home), bare);
        let error = set_limit(&home, "wam", None).expect_err("unknown");
        assert_eq!(error.to_string(), "no link wam is known");
    }

    #[test]
    fn what_cannot_be_changed_stays_as_it_is() {
        let (_dir, home) = home_with("[nodes.cloud]\naddress = \"1.1.1.1:1\"\n");
        let error = remove_node(&home, &name("clodu")).expect_err("unknown");
        assert!(matches!(error, EditError::Unknown { similar, .. } if similar == ["cloud"]));
        for (broken, message) in [("x = = 1", "is not TOML"), ("nodes = 1", "nodes is not a table")]
        {
            let (_dir, home) = home_with(broken);
            let error = add_node(&home, &name("a"), &[endpoint("1.1.1.1:1")]).expect_err("refused");
            assert!(error.to_string().contains(message), "{error}");
            assert_eq!(text(&home), broken);
        }
    }
}
