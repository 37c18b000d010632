//! How etcd is reached.

use std::fmt;
use std::net::IpAddr;
use std::time::Duration;

use tonic::transport::{Certificate, ClientTlsConfig, Endpoint, Identity, Uri};

use super::keys::Keys;
use crate::error::ConfigError;

/// To reach a member, TLS included: members are near each other.
const CONNECT_TIME: Duration = Duration::from_secs(1);
/// Most members that are tried; etcd itself advises against more than seven.
const ENDPOINTS_MAX: usize = 9;

/// How etcd is reached.
#[derive(Clone)]
pub struct EtcdConfig {
    /// Its members' client URLs, such as `https://etcd-1:2379`.
    pub endpoints: Vec<String>,
    /// What all keys start with, such as `/dyad`; another cluster in the same etcd has another one.
    pub prefix: String,
    /// For `https` endpoints.
    pub tls: Option<EtcdTls>,
    /// Name and password of a user who may read and write below the prefix.
    pub user: Option<(String, String)>,
    /// The administrator's word that `http` to other machines crosses a network on which nobody listens.
    pub allow_plain: bool,
}

/// Whom to believe, and what to show.
#[derive(Clone)]
pub struct EtcdTls {
    /// The authority of the members' certificates, as PEM.
    pub authority: Vec<u8>,
    /// Our certificate and its private key, as PEM, where etcd asks for one.
    pub identity: Option<(Vec<u8>, Vec<u8>)>,
    /// The name that the members' certificates have; none: each that of its URL.
    pub name: Option<String>,
}

impl fmt::Debug for EtcdTls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("EtcdTls(..)")
    }
}

impl fmt::Debug for EtcdConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "EtcdConfig({:?}, {})", self.endpoints, self.prefix)
    }
}

/// The settings after they were looked at.
pub(super) struct Checked {
    pub(super) endpoints: Vec<Endpoint>,
    pub(super) keys: Keys,
    pub(super) user: Option<(String, String)>,
}

impl EtcdConfig {
    pub(super) fn check(&self) -> Result<Checked, ConfigError> {
        if self.endpoints.is_empty() || self.endpoints.len() > ENDPOINTS_MAX {
            let address = format!("{} endpoints of etcd (1 to {ENDPOINTS_MAX})", self.endpoints.len());
            return Err(ConfigError::Address { address });
        }
        let endpoints = self.endpoints.iter().map(|url| self.endpoint(url)).collect::<Result<_, _>>()?;
        Ok(Checked { endpoints, keys: Keys::new(&self.prefix), user: self.user.clone() })
    }

    fn endpoint(&self, url: &str) -> Result<Endpoint, ConfigError> {
        let wrong = || ConfigError::Address { address: url.to_owned() };
        let uri: Uri = url.parse().map_err(|_| wrong())?;
        let host = uri.host().ok_or_else(wrong)?;
        let endpoint = Endpoint::from(uri.clone()).connect_timeout(CONNECT_TIME);
        match uri.scheme_str() {
            Some("https") => {
                let Some(tls) = &self.tls else {
                    return Err(ConfigError::Tls { reason: format!("{url} needs an authority's certificate") });
                };
                endpoint.tls_config(tls.settings()).map_err(|error| ConfigError::Tls { reason: error.to_string() })
            }
            Some("http") if self.allow_plain || is_loopback(host) => Ok(endpoint),
            Some("http") => Err(ConfigError::Plain { address: url.to_owned() }),
            Some(_) | None => Err(wrong()),
        }
    }
}

impl EtcdTls {
    fn settings(&self) -> ClientTlsConfig {
        let mut settings = ClientTlsConfig::new().ca_certificate(Certificate::from_pem(&self.authority));
        if let Some((certificate, key)) = &self.identity {
            settings = settings.identity(Identity::from_pem(certificate, key));
        }
        match &self.name {
            Some(name) => settings.domain_name(name),
            None => settings,
        }
    }
}

fn is_loopback(host: &str) -> bool {
    let address = host.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>();
    host == "localhost" || address.is_ok_and(|address| address.is_loopback())
}
