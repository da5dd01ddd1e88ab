//! What decides on a node: the policy and the roles in its home, by number and version.

mod error;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

pub use self::error::BorderError;
use super::home::write_atomic;
use super::{Config, ConfigError, Home};
use crate::base::Digest;
use crate::identity::{AuditKey, Identity, Voucher};
use crate::policy::{
    BUILTIN, BUNDLE_BYTES_MAX, Broken, Bundle, Cause, ChangeError, Decider, POLICY_BYTES_MAX,
    Policy, Reason, Roles, RolesMark,
};
use crate::storage::lacks_descriptors;

/// Largest note of what was seen, in bytes.
const SEEN_BYTES_MAX: u64 = 256;

/// What counted here last: a version that goes back is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
struct Seen {
    /// The policy's number and digest.
    policy: (u64, Digest),
    /// The version of the roles.
    roles: u64,
}

impl Home {
    /// The directory of the policy and the roles.
    pub fn policy_dir(&self) -> PathBuf {
        self.config_dir().join("policy")
    }

    /// Where the policy is unless `border.policy` says otherwise.
    pub fn policy_file(&self) -> PathBuf {
        self.policy_dir().join("policy.cedar")
    }

    /// The bundle of roles.
    pub fn roles_file(&self) -> PathBuf {
        self.policy_dir().join("roles.bundle")
    }

    /// The directory of proposals to lower a class.
    pub fn lowering_dir(&self) -> PathBuf {
        self.policy_dir().join("lowering")
    }

    fn seen_file(&self) -> PathBuf {
        self.state_dir().join("policy.seen")
    }
}

/// Has a decider decide by what lies in the home now, and by `config` or why there is none: to be
/// called when it may have changed. Answers are kept where nothing did.
///
/// # Errors
/// Something is wrong with the configuration, the policy or the roles, so everything is denied, with
/// the reason; the roles count as far as they can be read.
pub fn refresh(
    decider: &Decider,
    home: &Home,
    config: Result<&Config, &ConfigError>,
    identity: &Identity,
) -> Result<(), Broken> {
    match config.map(|config| ground(home, config, identity)) {
        Ok(Ok((policy, roles))) => {
            if decider.version() != Some((policy.version(), roles.version())) {
                decider.replace(policy, roles);
            }
            return Ok(());
        }
        Ok(Err(error)) => {
            let reason = format!("{error} (hint: {})", error.hint());
            Err(broken(home, identity, (&reason, error.of_system())))
        }
        Err(error) => Err(broken(home, identity, (&error.to_string(), error.of_system()))),
    }
    .inspect_err(|broken| decider.fail(broken.clone()))
}

/// Nothing can decide, and so much is known all the same.
fn broken(home: &Home, identity: &Identity, (reason, error): (&str, Option<&io::Error>)) -> Broken {
    let roles = read_roles(home, identity);
    let also = roles.as_ref().err().and_then(BorderError::of_system);
    let cause = cause(error).max(cause(also));
    Broken { reason: Reason::new(reason), cause, roles: roles.ok() }
}

fn cause(error: Option<&io::Error>) -> Cause {
    match error {
        None => Cause::Content,
        Some(error) if lacks_descriptors(error) => Cause::NoDescriptors,
        // A text that is none reads the same again.
        Some(error) if error.kind() == io::ErrorKind::InvalidData => Cause::Content,
        Some(_) => Cause::File,
    }
}

/// The policy and the roles that count, and a note of them.
///
/// # Errors
/// One of them cannot be had.
pub fn ground(
    home: &Home,
    config: &Config,
    identity: &Identity,
) -> Result<(Policy, Roles), BorderError> {
    let look = || {
        let (policy, roles) = (read_policy(home, config)?, read_roles(home, identity)?);
        let version = policy.version();
        let seen = Seen { policy: (version.number, version.digest), roles: roles.version() };
        Ok::<_, BorderError>((policy, roles, seen))
    };
    let (policy, roles, seen) = look()?;
    if read_seen(home)? == seen {
        return Ok((policy, roles));
    }
    // Somebody may change the roles meanwhile, and the note must not go back.
    let _held = lock(home)?;
    let (policy, roles, seen) = look()?;
    write_seen(home, seen)?;
    Ok((policy, roles))
}

/// The policy in the home: the file that `border.policy` names, which must be there; else
/// `policy/policy.cedar`; else the ready one. Its number is one more than the last one's, unless
/// nothing changed.
///
/// # Errors
/// The file cannot be read or is no policy.
pub fn read_policy(home: &Home, config: &Config) -> Result<Policy, BorderError> {
    let named = config.settings.border.policy.clone();
    let path = named.clone().unwrap_or_else(|| home.policy_file());
    let text = match read(&path, POLICY_BYTES_MAX as u64)? {
        Some(bytes) => {
            String::from_utf8(bytes).map_err(|_| BorderError::Text { path: path.clone() })?
        }
        None if named.is_none() => BUILTIN.to_owned(),
        None => return Err(BorderError::Missing { path }),
    };
    let jurisdictions = config.sites.iter();
    let jurisdictions: BTreeMap<_, _> = jurisdictions
        .filter_map(|(name, site)| Some((name.clone(), site.jurisdiction.clone()?)))
        .collect();
    let load = |number| {
        Policy::load(&text, number, config.classes.clone(), jurisdictions.clone())
            .map_err(|source| BorderError::Policy { path: path.clone(), source })
    };
    let (number, digest) = read_seen(home)?.policy;
    let policy = load(number)?;
    if policy.version().digest == digest { Ok(policy) } else { load(number.saturating_add(1)) }
}

/// The roles in the home; none where nothing was ever granted.
///
/// # Errors
/// The bundle is no bundle, is signed by nobody who counts here, or is older than one that counted.
pub fn read_roles(home: &Home, identity: &Identity) -> Result<Roles, BorderError> {
    let path = home.roles_file();
    let roles = match read(&path, BUNDLE_BYTES_MAX as u64)? {
        None => Roles::default(),
        Some(bytes) => {
            let source = |source| BorderError::Bundle { path: path.clone(), source };
            let bundle = Bundle::decode(&bytes).map_err(source)?;
            judge(home, identity, &bundle, &path)?;
            bundle.roles
        }
    };
    let (found, seen) = (roles.version(), read_seen(home)?.roles);
    if found < seen {
        return Err(BorderError::Older { path, found, seen });
    }
    Ok(roles)
}

/// Which roles these are, if the CA signed them: what other nodes may be told.
///
/// # Errors
/// The bundle cannot be read.
pub fn roles_mark(home: &Home, identity: &Identity) -> Result<Option<RolesMark>, BorderError> {
    let bytes = read(&home.roles_file(), BUNDLE_BYTES_MAX as u64)?;
    let bundle = bytes.and_then(|bytes| Bundle::decode(&bytes).ok());
    let signed = bundle.filter(|bundle| identity.judge_roles(bundle, None).is_ok());
    Ok(signed.map(|bundle| bundle.mark()))
}

/// Who vouches for a bundle, which came from `path`.
fn judge(
    home: &Home,
    identity: &Identity,
    bundle: &Bundle,
    path: &Path,
) -> Result<Voucher, BorderError> {
    let refused = |source| BorderError::Voucher { path: path.to_owned(), source };
    let error = match identity.judge_roles(bundle, None) {
        Err(error) => error,
        Ok(voucher) => return Ok(voucher),
    };
    // Only roles that the CA did not sign need this node's own key.
    match AuditKey::load_or_create(&home.identity_dir()) {
        Ok(own) => identity.judge_roles(bundle, Some(&own)).map_err(refused),
        Err(key) => {
            let key = BorderError::Key(key);
            Err(if key.of_system().is_some() { key } else { refused(error) })
        }
    }
}

/// Changes the roles in the home, signs them, and tells who vouches for them. Of two processes that
/// do so at once, the second changes what the first one wrote.
///
/// # Errors
/// The roles that are there cannot be read, the change makes no sense, or it cannot be signed or
/// written; what counted goes on to count.
pub fn change_roles(
    home: &Home,
    identity: &Identity,
    change: impl FnOnce(&Roles) -> Result<Roles, ChangeError>,
) -> Result<(Roles, Voucher), BorderError> {
    let _held = lock(home)?;
    let roles = change(&read_roles(home, identity)?)?;
    let (bundle, voucher) = identity.seal_roles(&home.identity_dir(), roles)?;
    Ok((write_roles(home, bundle)?, voucher))
}

/// Takes the bundle of another node, which came from `origin`, in place of the one in the home.
///
/// # Errors
/// It is no bundle, the CA did not sign it, or it is older than the one here; what counted goes on to
/// count.
pub fn take_roles(
    home: &Home,
    identity: &Identity,
    bytes: &[u8],
    origin: &Path,
) -> Result<Roles, BorderError> {
    let path = || origin.to_owned();
    let bundle = Bundle::decode(bytes);
    let bundle = bundle.map_err(|source| BorderError::Bundle { path: path(), source })?;
    let _held = lock(home)?;
    if judge(home, identity, &bundle, origin)? == Voucher::Node {
        return Err(BorderError::NotByCa { path: path() });
    }
    let taken = read_roles(home, identity)?.succeed(bundle.roles.clone());
    taken.map_err(|source| BorderError::Succeed { path: path(), source })?;
    write_roles(home, bundle)
}

/// Keeps others from changing the roles until it is dropped.
fn lock(home: &Home) -> Result<File, BorderError> {
    let dir = home.policy_dir();
    let failed = |action| {
        let path = dir.clone();
        move |source| BorderError::File { path, action, source }
    };
    home.create().map_err(failed("made"))?;
    std::fs::create_dir_all(&dir).map_err(failed("made"))?;
    let held = File::open(&dir).map_err(failed("opened"))?;
    held.lock().map_err(failed("locked"))?;
    Ok(held)
}

fn write_roles(home: &Home, bundle: Bundle) -> Result<Roles, BorderError> {
    let path = home.roles_file();
    let seen = Seen { roles: bundle.roles.version(), ..read_seen(home)? };
    let written = write_atomic(&path, &bundle.encode());
    written.map_err(|source| BorderError::File { path, action: "written", source })?;
    write_seen(home, seen)?;
    Ok(bundle.roles)
}

/// The content of a file of at most `limit` bytes; `None` if it is not there.
fn read(path: &Path, limit: u64) -> Result<Option<Vec<u8>>, BorderError> {
    let failed = |source| BorderError::File { path: path.to_owned(), action: "read", source };
    let file = match File::open(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        other => other.map_err(failed)?,
    };
    let mut content = Vec::new();
    file.take(limit + 1).read_to_end(&mut content).map_err(failed)?;
    if content.len() as u64 > limit {
        return Err(BorderError::Large { path: path.to_owned(), limit });
    }
    Ok(Some(content))
}

/// `policy NUMBER DIGEST` and `roles VERSION`, a line each.
fn read_seen(home: &Home) -> Result<Seen, BorderError> {
    let path = home.seen_file();
    let Some(bytes) = read(&path, SEEN_BYTES_MAX)? else { return Ok(Seen::default()) };
    let parsed = std::str::from_utf8(&bytes).ok().and_then(|text| {
        let (policy, roles) = text.strip_suffix('\n')?.split_once('\n')?;
        let (number, digest) = policy.strip_prefix("policy ")?.split_once(' ')?;
        let roles = roles.strip_prefix("roles ")?.parse().ok()?;
        Some(Seen { policy: (number.parse().ok()?, digest.parse().ok()?), roles })
    });
    parsed.ok_or(BorderError::Seen { path })
}

fn write_seen(home: &Home, seen: Seen) -> Result<(), BorderError> {
    let path = home.seen_file();
    let (number, digest) = seen.policy;
    let text = format!("policy {number} {digest}\nroles {}\n", seen.roles);
    let failed = |source| BorderError::File { path: path.clone(), action: "written", source };
    home.create().map_err(failed)?;
    write_atomic(&path, text.as_bytes()).map_err(failed)
}
