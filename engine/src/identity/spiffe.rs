//! The SPIFFE id of a node: `spiffe://<trust domain>/tier/<tier>/site/<site>/node/<name>`; that of a
//! workload has `workload` for `node`.

use std::fmt;
use std::str::FromStr;

use ring::rand::{SecureRandom, SystemRandom};

use crate::base::{NodeName, ParseNameError, SiteName, Tier};
use crate::policy::Kind;

/// Longest SPIFFE id, in bytes (SPIFFE-ID 2.3).
const SPIFFE_BYTES_MAX: usize = 2048;
/// Longest trust domain, in bytes (SPIFFE-ID 2.3).
const DOMAIN_BYTES_MAX: usize = 255;

/// The nodes that trust one CA: 1 to 255 of a-z, 0-9, `.`, `-` and `_`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TrustDomain(String);

impl TrustDomain {
    /// A new trust domain, `portway-` and 16 random hexadecimal digits; `None` without randomness.
    pub(super) fn random() -> Option<Self> {
        let mut bytes = [0; 8];
        SystemRandom::new().fill(&mut bytes).ok()?;
        Some(Self(format!("portway-{:016x}", u64::from_be_bytes(bytes))))
    }

    /// The domain's text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for TrustDomain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for TrustDomain {
    type Err = ParseSpiffeError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let plain = |c: u8| c.is_ascii_lowercase() || c.is_ascii_digit() || b".-_".contains(&c);
        if (1..=DOMAIN_BYTES_MAX).contains(&text.len()) && text.bytes().all(plain) {
            Ok(Self(text.to_owned()))
        } else {
            Err(ParseSpiffeError::TrustDomain)
        }
    }
}

/// Who a node or a workload is, as the only URI of its certificate says.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct SpiffeId {
    /// The trust domain that vouches for it.
    pub domain: TrustDomain,
    /// The site's tier.
    pub tier: Tier,
    /// Its site.
    pub site: SiteName,
    /// Whether it is a node or a workload.
    pub kind: Kind,
    /// The name of the node or the workload.
    pub node: NodeName,
}

impl fmt::Display for SpiffeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { domain, tier, site, kind, node } = self;
        let kind = kind.as_str();
        write!(f, "spiffe://{domain}/tier/{tier}/site/{site}/{kind}/{node}")
    }
}

/// Why a text is not the SPIFFE id of a node or a workload.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ParseSpiffeError {
    /// It is longer than a SPIFFE id may be.
    #[error("a SPIFFE id has at most {SPIFFE_BYTES_MAX} bytes, not {len}")]
    Long {
        /// Its length in bytes.
        len: usize,
    },
    /// It does not begin with `spiffe://`.
    #[error("a SPIFFE id begins with 'spiffe://'")]
    Scheme,
    /// The trust domain is empty, too long or has other characters.
    #[error("a trust domain is 1 to {DOMAIN_BYTES_MAX} of a-z, 0-9, '.', '-' and '_'")]
    TrustDomain,
    /// The path is not that of a node or a workload.
    #[error("the path of a SPIFFE id is /tier/TIER/site/SITE/node/NAME, or workload for node")]
    Shape,
    /// The tier is neither of the two.
    #[error("a tier is 'private' or 'public'")]
    Tier,
    /// The site or the node has no valid name.
    #[error(transparent)]
    Name(#[from] ParseNameError),
}

impl FromStr for SpiffeId {
    type Err = ParseSpiffeError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if text.len() > SPIFFE_BYTES_MAX {
            return Err(ParseSpiffeError::Long { len: text.len() });
        }
        let rest = text.strip_prefix("spiffe://").ok_or(ParseSpiffeError::Scheme)?;
        let (domain, path) = rest.split_once('/').unwrap_or((rest, ""));
        let domain = domain.parse()?;
        let parts: Vec<&str> = path.split('/').collect();
        let ["tier", tier, "site", site, kind, node] = parts[..] else {
            return Err(ParseSpiffeError::Shape);
        };
        let kind = [Kind::Node, Kind::Workload].into_iter().find(|it| it.as_str() == kind);
        let kind = kind.ok_or(ParseSpiffeError::Shape)?;
        let tier = tier.parse().map_err(|_| ParseSpiffeError::Tier)?;
        Ok(Self { domain, tier, site: site.parse()?, kind, node: node.parse()? })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = "spiffe://portway-0123456789abcdef/tier/private/site/onprem/node/gpu-7";

    #[test]
    fn an_id_survives_its_text_form() {
        let id: SpiffeId = GOOD.parse().unwrap();
        assert_eq!(
            (id.node.as_str(), id.site.as_str(), id.tier),
            ("gpu-7", "onprem", Tier::Private)
        );
        assert_eq!(id.to_string(), GOOD);
    }

    #[test]
    fn every_mistake_has_its_own_error() {
        let parse = |text: &str| text.parse::<SpiffeId>().unwrap_err();
        let long = format!("spiffe://{}", "a".repeat(SPIFFE_BYTES_MAX));
        assert_eq!(parse(&long), ParseSpiffeError::Long { len: SPIFFE_BYTES_MAX + 9 });
        assert_eq!(parse("https://d/tier/private/site/s/node/n"), ParseSpiffeError::Scheme);
        assert_eq!(parse("SPIFFE://d/tier/private/site/s/node/n"), ParseSpiffeError::Scheme);
        assert_eq!(parse("spiffe:///tier/private/site/s/node/n"), ParseSpiffeError::TrustDomain);
        assert_eq!(parse("spiffe://D/tier/private/site/s/node/n"), ParseSpiffeError::TrustDomain);
        assert_eq!(parse("spiffe://d:1/tier/private/site/s/node/n"), ParseSpiffeError::TrustDomain);
        for shape in ["", "/", "/tier/private/site/s/node", "/site/s/tier/private/node/n"] {
            assert_eq!(parse(&format!("spiffe://d{shape}")), ParseSpiffeError::Shape, "{shape}");
        }
        assert_eq!(parse("spiffe://d/tier/private/site/s/node/n/"), ParseSpiffeError::Shape);
        assert_eq!(parse("spiffe://d/tier/secret/site/s/node/n"), ParseSpiffeError::Tier);
        assert_eq!(parse("spiffe://d/tier/private/site//node/n"), ParseNameError.into());
        assert_eq!(parse("spiffe://d/tier/private/site/s/node/%6e"), ParseNameError.into());
        assert_eq!(parse("spiffe://d/tier/private/site/s/node/n?x"), ParseNameError.into());
    }

    #[test]
    fn a_new_trust_domain_is_random_and_valid() {
        let (a, b) = (TrustDomain::random().unwrap(), TrustDomain::random().unwrap());
        assert_ne!(a, b);
        assert_eq!(a.as_str().len(), "portway-".len() + 16);
        assert_eq!(a.as_str().parse(), Ok(a.clone()));
    }
}
