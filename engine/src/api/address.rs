//! `NODE:PATH` and `portway://ADDR:PORT/PATH`, told apart from local paths by their form alone.

use std::ffi::{OsStr, OsString};
use std::io;
use std::net::{SocketAddr, ToSocketAddrs};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::PathBuf;

use super::{Error, Exit, NodeAddress, Remote};
use crate::base::{NodeName, RelPath, human};
use crate::config::{Config, Endpoint, similar};

const SCHEME: &[u8] = b"portway://";

/// A path somewhere.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Place {
    /// On this machine.
    Local(PathBuf),
    /// At a node.
    Remote(Remote),
}

/// Finds the addresses of a host name and port.
type Resolve<'a> = &'a dyn Fn(&str) -> io::Result<Vec<SocketAddr>>;

/// Reads a path of either kind. A colon before the first slash makes it one of a node.
///
/// # Errors
/// As [`remote`].
pub fn place(text: &OsStr, config: &Config) -> Result<Place, Error> {
    match split(text.as_bytes()) {
        Form::Local => Ok(Place::Local(PathBuf::from(text))),
        _ => remote(text, config).map(Place::Remote),
    }
}

/// Reads a path that must be at a node.
///
/// # Errors
/// It names no known node, no address that resolves, or no path below a root.
pub fn remote(text: &OsStr, config: &Config) -> Result<Remote, Error> {
    remote_with(text, config, &|host| host.to_socket_addrs().map(Iterator::collect))
}

/// Reads a path that must be on this machine.
///
/// # Errors
/// It names a path of a node.
pub fn local(text: &OsStr) -> Result<PathBuf, Error> {
    if matches!(split(text.as_bytes()), Form::Local) {
        return Ok(PathBuf::from(text));
    }
    let shown = shown(text);
    Err(usage(format!("{shown} is a path of a node, and one of this machine is needed here"))
        .hint(format!("for the local file write ./{shown}")))
}

/// Reads a node without a path: a known name, `ADDR:PORT` or `portway://ADDR:PORT`.
///
/// # Errors
/// No such node is known, or the address does not resolve.
pub fn node(text: &str, config: &Config) -> Result<NodeAddress, Error> {
    let bare = text.strip_prefix("portway://").map(|rest| rest.trim_end_matches('/'));
    match bare {
        Some(address) => endpoint(address, &|host| host.to_socket_addrs().map(Iterator::collect)),
        None if text.contains(':') && !text.ends_with(':') => {
            endpoint(text, &|host| host.to_socket_addrs().map(Iterator::collect))
        }
        None => known(text.strip_suffix(':').unwrap_or(text), config).map(NodeAddress::Name),
    }
}

/// As it is typed.
impl std::fmt::Display for Remote {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let path = if self.path.is_root() { String::new() } else { self.path.to_string() };
        let slash = if self.into && !path.is_empty() { "/" } else { "" };
        match &self.node {
            NodeAddress::Name(name) => write!(f, "{name}:{path}{slash}"),
            NodeAddress::Address(address) => write!(f, "portway://{address}/{path}{slash}"),
        }
    }
}

fn shown(text: &OsStr) -> String {
    human::escaped(text.as_bytes())
}

fn usage(message: String) -> Error {
    Error::new("address", Exit::Usage, message)
}

/// The parts of a typed path.
enum Form<'a> {
    Local,
    Name { node: &'a [u8], path: &'a [u8] },
    Address { address: &'a [u8], path: &'a [u8] },
}

fn split(text: &[u8]) -> Form<'_> {
    if let Some(rest) = text.strip_prefix(SCHEME) {
        let end = rest.iter().position(|&c| c == b'/').unwrap_or(rest.len());
        return Form::Address { address: &rest[..end], path: &rest[end..] };
    }
    let end = text.iter().position(|&c| c == b':' || c == b'/');
    match end {
        Some(end) if text[end] == b':' => Form::Name { node: &text[..end], path: &text[end + 1..] },
        _ => Form::Local,
    }
}

fn remote_with(text: &OsStr, config: &Config, resolve: Resolve<'_>) -> Result<Remote, Error> {
    let (node, path) = match split(text.as_bytes()) {
        Form::Local => {
            return Err(usage(format!("{} names no node", shown(text)))
                .hint("write NODE:PATH or portway://ADDR:PORT/PATH"));
        }
        Form::Name { node, path } => {
            let name = known(&human::escaped(node), config).map_err(|error| {
                let local = OsString::from_vec([b"./", text.as_bytes()].concat());
                let stop = if error.hint.ends_with('?') { "" } else { ";" };
                let hint = format!("{}{stop} for a local file write {}", error.hint, shown(&local));
                error.hint(hint)
            })?;
            (NodeAddress::Name(name), path)
        }
        Form::Address { address, path } => (endpoint(&human::escaped(address), resolve)?, path),
    };
    let checked = RelPath::from_typed(path).map_err(|error| {
        usage(format!("{} cannot be a path of a node: {error}", shown(text)))
            .hint("name a path below the node's root")
    })?;
    let last = path.rsplit(|&c| c == b'/').next().unwrap_or_default();
    let into = checked.is_root() || last.is_empty() || last == b".";
    Ok(Remote { node, path: checked, into })
}

fn endpoint(text: &str, resolve: Resolve<'_>) -> Result<NodeAddress, Error> {
    let parsed: Endpoint = text.parse().map_err(|error| {
        usage(format!("{text:?} is not an address: {error}"))
            .hint("for example portway://10.0.0.2:7717/checkpoints or portway://[fd00::2]:7717/")
    })?;
    match parsed {
        Endpoint::Address(address) => Ok(NodeAddress::Address(address)),
        Endpoint::Host(..) => {
            let found = resolve(text).map(|list| list.into_iter().next());
            let why = match found {
                Ok(Some(address)) => return Ok(NodeAddress::Address(address)),
                Ok(None) => "it has no address".to_owned(),
                Err(error) => error.to_string(),
            };
            Err(Error::new("resolve", Exit::Failed, format!("{text} cannot be resolved: {why}"))
                .hint("check the name, or write the address itself"))
        }
    }
}

fn known(text: &str, config: &Config) -> Result<NodeName, Error> {
    let name = text.parse::<NodeName>().ok();
    if let Some(name) = name.filter(|name| config.nodes.contains_key(name)) {
        return Ok(name);
    }
    let names = || config.nodes.keys().map(NodeName::as_str);
    let near = similar(text, names());
    let hint = if !near.is_empty() {
        format!("did you mean {}?", near.join(" or "))
    } else if config.nodes.is_empty() {
        "no node is known yet: portway nodes add NAME ADDR:PORT".to_owned()
    } else {
        let names: Vec<_> = names().take(8).collect();
        format!("known are {}; portway nodes add NAME ADDR:PORT adds one", names.join(", "))
    };
    let message = format!("no node {text:?} is known");
    Err(Error::new("unknown-node", Exit::Usage, message).hint(hint))
}

#[cfg(test)]
mod tests;
