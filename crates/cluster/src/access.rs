//! Who may use a volume: initiator names and CHAP secrets.

use std::fmt;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

/// Bound of the list of initiators of one volume; a cluster of hosts fits, and the record stays small.
pub const INITIATORS_MAX: usize = 64;
/// RFC 7143 §4.2.7.1.
const INITIATOR_BYTES_MAX: usize = 223;
/// CHAP names and secrets are text values, at most 255 bytes (RFC 7143 §6.1).
const CHAP_BYTES_MAX: usize = 255;
/// Shorter secrets can be guessed from one captured login (RFC 7143 §9.2.1 asks for 96 random bits).
const SECRET_BYTES_MIN: usize = 12;

/// The list or a secret cannot be used.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum AccessError {
    /// Not an iSCSI name.
    #[error(
        "`{0}` is not an initiator name (write it as in the host's initiatorname.iscsi, such as iqn.2004-10.com.example:host)"
    )]
    Initiator(String),
    /// Too many names.
    #[error("{0} initiators are too many for one volume (at most {INITIATORS_MAX})")]
    TooMany(usize),
    /// Wrong length of a CHAP name.
    #[error("a CHAP name has 1 to {CHAP_BYTES_MAX} bytes")]
    ChapName,
    /// Wrong length of a CHAP secret.
    #[error("a CHAP secret has {SECRET_BYTES_MIN} to {CHAP_BYTES_MAX} bytes")]
    ChapSecret,
    /// Both directions with one secret let a host be impersonated with its own answer (RFC 7143 §9.2.1).
    #[error("the CHAP secrets of the two directions must differ")]
    SameSecret,
    /// One host cannot be kept out of a volume that is open to everybody.
    #[error("the volume is open to every host: allow those that may use it, and the others are kept out")]
    OpenToAll,
}

/// The iSCSI name of a host, in lower case.
#[derive(Clone, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub struct InitiatorName(String);

impl InitiatorName {
    /// Checks form and length (RFC 7143 §4.2.7) and lowers the case, in which names compare.
    ///
    /// # Errors
    /// [`AccessError::Initiator`].
    pub fn new(text: &str) -> Result<Self, AccessError> {
        let name = text.to_ascii_lowercase();
        let is_form = ["iqn.", "eui.", "naa."].iter().any(|form| name.len() > form.len() && name.starts_with(form));
        let is_legal = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '.' | ':') || !c.is_ascii();
        if is_form && name.len() <= INITIATOR_BYTES_MAX && name.chars().all(is_legal) {
            Ok(Self(name))
        } else {
            Err(AccessError::Initiator(text.chars().take(INITIATOR_BYTES_MAX).collect()))
        }
    }

    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl Serialize for InitiatorName {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for InitiatorName {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        Self::new(&String::deserialize(from)?).map_err(de::Error::custom)
    }
}

/// A CHAP secret. It is never printed.
#[derive(Clone, Eq, PartialEq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Secret(String);

impl Secret {
    /// The bytes, for the CHAP response only.
    pub fn reveal(&self) -> &[u8] {
        self.0.as_bytes()
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(hidden)")
    }
}

/// Name and secret of one direction.
#[derive(Clone, Debug, Eq, PartialEq, Serialize, Deserialize)]
pub struct Chap {
    /// CHAP_N.
    pub name: String,
    /// The shared secret.
    pub secret: Secret,
}

impl Chap {
    /// Checks the lengths.
    ///
    /// # Errors
    /// [`AccessError::ChapName`], [`AccessError::ChapSecret`].
    pub fn new(name: &str, secret: &str) -> Result<Self, AccessError> {
        if name.is_empty() || name.len() > CHAP_BYTES_MAX {
            return Err(AccessError::ChapName);
        }
        if !(SECRET_BYTES_MIN..=CHAP_BYTES_MAX).contains(&secret.len()) {
            return Err(AccessError::ChapSecret);
        }
        Ok(Self { name: name.to_owned(), secret: Secret(secret.to_owned()) })
    }
}

/// CHAP of a volume: hosts prove themselves, and with `mutual` the target does too.
#[derive(Clone, Debug, Eq, PartialEq, Serialize, Deserialize)]
pub struct ChapPair {
    /// What the host must know.
    pub host: Chap,
    /// What the target proves to the host.
    pub mutual: Option<Chap>,
}

/// What a host may do with a volume.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Right {
    /// Read and write.
    #[default]
    ReadWrite,
    /// Only read.
    ReadOnly,
}

/// One host's right.
#[derive(Clone, Debug, Eq, PartialEq, Serialize, Deserialize)]
pub struct Grant {
    /// The host.
    pub initiator: InitiatorName,
    /// What it may do.
    pub right: Right,
}

/// The hosts that may use a volume. "Everybody" is a word of its own: a list out of which the last name was taken lets
/// nobody in.
#[derive(Clone, Debug, Eq, PartialEq, Serialize, Deserialize)]
pub enum Hosts {
    /// Every host that passes CHAP, if any.
    All(Right),
    /// These.
    Listed(Vec<Grant>),
}

impl Default for Hosts {
    fn default() -> Self {
        Self::All(Right::ReadWrite)
    }
}

/// Who may use a volume.
#[derive(Clone, Debug, Default, Eq, PartialEq, Serialize, Deserialize)]
pub struct Access {
    /// Which hosts, by name.
    pub hosts: Hosts,
    /// None: no authentication.
    pub chap: Option<ChapPair>,
}

/// Whom a change of the access concerns.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Whom {
    /// Every host, named or not.
    Everybody,
    /// This one.
    Host(InitiatorName),
}

impl Access {
    /// Access for these hosts to read and write; for every host if none is named.
    pub fn of(initiators: Vec<InitiatorName>, chap: Option<ChapPair>) -> Self {
        let grants = initiators.into_iter().map(|initiator| Grant { initiator, right: Right::ReadWrite });
        let grants: Vec<_> = grants.collect();
        let hosts = if grants.is_empty() { Hosts::default() } else { Hosts::Listed(grants) };
        Self { hosts, chap }
    }

    /// What a host of this name may do, authentication aside; none: it may not log in. Names compare in lower case.
    pub fn right_of(&self, initiator: &str) -> Option<Right> {
        match &self.hosts {
            Hosts::All(right) => Some(*right),
            Hosts::Listed(grants) => {
                let is_it = |grant: &&Grant| grant.initiator.0.eq_ignore_ascii_case(initiator);
                grants.iter().find(is_it).map(|grant| grant.right)
            }
        }
    }

    /// The hosts that are named.
    pub fn grants(&self) -> &[Grant] {
        match &self.hosts {
            Hosts::All(_) => &[],
            Hosts::Listed(grants) => grants,
        }
    }

    /// Lets a host in, or changes its right. A volume that was open to everybody is open to the hosts named from then on.
    pub fn allow(&mut self, whom: Whom, right: Right) {
        let initiator = match whom {
            Whom::Everybody => return self.hosts = Hosts::All(right),
            Whom::Host(initiator) => initiator,
        };
        let mut grants = self.grants().to_vec();
        match grants.iter_mut().find(|grant| grant.initiator == initiator) {
            Some(known) => known.right = right,
            None => grants.push(Grant { initiator, right }),
        }
        self.hosts = Hosts::Listed(grants);
    }

    /// Lets a host in no more; whether it was let in by name.
    ///
    /// # Errors
    /// [`AccessError::OpenToAll`]: who is let in without a name cannot be kept out by one.
    pub fn deny(&mut self, whom: &Whom) -> Result<bool, AccessError> {
        match (whom, &mut self.hosts) {
            (Whom::Everybody, hosts) => {
                *hosts = Hosts::Listed(Vec::new());
                Ok(true)
            }
            (Whom::Host(_), Hosts::All(_)) => Err(AccessError::OpenToAll),
            (Whom::Host(initiator), Hosts::Listed(grants)) => {
                let before = grants.len();
                grants.retain(|grant| grant.initiator != *initiator);
                Ok(grants.len() < before)
            }
        }
    }

    /// Checks what the parts alone cannot know.
    ///
    /// # Errors
    /// [`AccessError::TooMany`], [`AccessError::SameSecret`].
    pub fn check(&self) -> Result<(), AccessError> {
        if self.grants().len() > INITIATORS_MAX {
            return Err(AccessError::TooMany(self.grants().len()));
        }
        let is_same = |chap: &ChapPair| chap.mutual.as_ref().is_some_and(|mutual| mutual.secret == chap.host.secret);
        if self.chap.as_ref().is_some_and(is_same) { Err(AccessError::SameSecret) } else { Ok(()) }
    }
}

#[cfg(test)]
mod tests {
    use super::{Access, AccessError, Chap, ChapPair, Hosts, InitiatorName, Right, Whom};

    fn host(name: &str) -> Whom {
        Whom::Host(InitiatorName::new(name).unwrap())
    }

    #[test]
    fn a_named_host_is_admitted_in_any_case_and_others_are_not() {
        let access = Access::of(vec![InitiatorName::new("IQN.2004-10.com.Example:a").unwrap()], None);
        assert_eq!(access.right_of("iqn.2004-10.com.example:A"), Some(Right::ReadWrite));
        assert_eq!(access.right_of("iqn.2004-10.com.example:b"), None);
        assert_eq!(Access::default().right_of("iqn.anyone"), Some(Right::ReadWrite));
    }

    #[test]
    fn the_first_name_closes_the_volume_to_others_and_the_last_one_that_goes_does_not_open_it() {
        let mut access = Access::default();
        assert_eq!(access.deny(&host("iqn.x:a")), Err(AccessError::OpenToAll));
        access.allow(host("iqn.x:a"), Right::ReadWrite);
        access.allow(host("iqn.X:B"), Right::ReadOnly);
        assert_eq!(access.right_of("iqn.x:a"), Some(Right::ReadWrite));
        assert_eq!(access.right_of("iqn.x:b"), Some(Right::ReadOnly));
        assert_eq!(access.right_of("iqn.x:c"), None);
        access.allow(host("iqn.x:a"), Right::ReadOnly);
        assert_eq!(access.grants().len(), 2);
        assert_eq!(access.right_of("iqn.x:a"), Some(Right::ReadOnly));
        assert_eq!(access.deny(&host("iqn.x:c")), Ok(false));
        assert_eq!(access.deny(&host("iqn.x:a")), Ok(true));
        assert_eq!(access.deny(&host("iqn.x:b")), Ok(true));
        assert_eq!(access.hosts, Hosts::Listed(vec![]));
        assert_eq!(access.right_of("iqn.x:a"), None);
        access.allow(Whom::Everybody, Right::ReadOnly);
        assert_eq!(access.right_of("iqn.x:c"), Some(Right::ReadOnly));
        assert_eq!(access.deny(&Whom::Everybody), Ok(true));
        assert_eq!(access.right_of("iqn.x:c"), None);
    }

    #[test]
    fn odd_names_and_weak_secrets_are_refused() {
        for name in ["", "iqn.", "host", "iqn.a b", &format!("iqn.{}", "x".repeat(220))] {
            assert!(InitiatorName::new(name).is_err(), "{name}");
        }
        assert_eq!(Chap::new("a", "short"), Err(AccessError::ChapSecret));
        assert_eq!(Chap::new("", "long enough secret"), Err(AccessError::ChapName));
        let host = Chap::new("a", "long enough secret").unwrap();
        let chap = Some(ChapPair { host: host.clone(), mutual: Some(host) });
        assert_eq!(Access::of(vec![], chap).check(), Err(AccessError::SameSecret));
    }

    #[test]
    fn a_secret_is_never_printed() {
        let chap = Chap::new("a", "long enough secret").unwrap();
        assert!(!format!("{chap:?}").contains("long enough"));
    }
}
