//! The node's side: tokens, and who comes with one.

use std::fs;
use std::io;
use std::net::TcpStream;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use aws_lc_rs::digest::{SHA256, digest};
use dyad_cluster::{Kind, Name, NodeState, Record, Store, StoreError};
use dyad_store::{Authority, ConfigError, Tls, fingerprint};
use dyad_units::NodeId;
use rustls::{ServerConnection, StreamOwned};

use super::talk::{self, Answer, Ask, Password, StoreWay, VERSION, Welcome};
use super::token::{SECRET_BYTES, Token};
use crate::settings::{Settings, StoreChoice};

/// A token is good for so long: time to walk to the other machine.
const TOKEN_TIME: Duration = Duration::from_secs(15 * 60);
/// Tokens at a time; a new one takes the place of the oldest.
const TOKENS_MAX: usize = 16;
/// For the whole talk.
const TALK_TIME: Duration = Duration::from_secs(10);
/// Largest file with the authority's key.
const KEY_BYTES_MAX: u64 = 64 << 10;

/// No token was made.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TokenError {
    /// It has no way to let others in.
    #[error("this node has no certificates for connections between nodes (`peer.ca`): `dyad cluster init` makes them")]
    NoCertificates,
    /// It cannot sign.
    #[error(
        "this node does not have the authority's private key (`peer.ca_key`): ask the node where the cluster was made"
    )]
    NoAuthority,
    /// The key cannot be used.
    #[error("the authority's private key {path} cannot be read")]
    Key {
        /// The file.
        path: String,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// Certificate and key.
    #[error(transparent)]
    Certificates(#[from] ConfigError),
    /// It is alone.
    #[error("this node is alone: set `peer.listen` and a config store that nodes share first")]
    Alone,
}

struct Issued {
    /// Of the secret, which is kept nowhere.
    hash: [u8; 32],
    until: Instant,
}

/// Lets machines in that come with a token.
pub(crate) struct Reception {
    settings: Arc<Settings>,
    node: Name,
    addresses: Vec<String>,
    store: Arc<dyn Store>,
    issued: Mutex<Vec<Issued>>,
}

impl Reception {
    pub(crate) fn new(settings: Arc<Settings>, node: Name, addresses: Vec<String>, store: Arc<dyn Store>) -> Self {
        Self { settings, node, addresses, store, issued: Mutex::default() }
    }

    /// A new token, and how long it is good for.
    pub(crate) fn token(&self) -> Result<(Token, Duration), TokenError> {
        if self.addresses.is_empty() || matches!(self.settings.store, StoreChoice::Local) {
            return Err(TokenError::Alone);
        }
        let tls = self.tls()?;
        self.authority(tls)?;
        let authority = fingerprint(&tls.authority)?;
        let mut secret = [0; SECRET_BYTES];
        secret.copy_from_slice(&crate::clock::random_id());
        let until = Instant::now() + TOKEN_TIME;
        let mut issued = self.issued();
        issued.retain(|one| one.until > Instant::now());
        if issued.len() >= TOKENS_MAX {
            issued.remove(0);
        }
        issued.push(Issued { hash: hash(&secret), until });
        Ok((Token { node: self.node.clone(), addresses: self.addresses.clone(), authority, secret }, TOKEN_TIME))
    }

    fn tls(&self) -> Result<&Tls, TokenError> {
        self.settings.peer.tls.as_ref().ok_or(TokenError::NoCertificates)
    }

    /// Read anew each time: the key is needed seldom, and is better nowhere in memory.
    fn authority(&self, tls: &Tls) -> Result<Authority, TokenError> {
        let path = self.settings.peer.authority_key.as_ref().ok_or(TokenError::NoAuthority)?;
        let failed = |source| TokenError::Key { path: path.display().to_string(), source };
        if fs::metadata(path).map_err(failed)?.len() > KEY_BYTES_MAX {
            return Err(failed(io::Error::new(io::ErrorKind::InvalidData, "it is no key")));
        }
        let key = fs::read_to_string(path).map_err(failed)?;
        Ok(Authority::load(&String::from_utf8_lossy(&tls.authority), &key)?)
    }

    /// One machine's visit; the first bytes were not read yet.
    pub(crate) fn receive(&self, socket: TcpStream) -> Result<(), JoinRefused> {
        let mut socket = talk::Timed::new(socket, Instant::now() + TALK_TIME);
        let mut magic = [0; super::MAGIC.len()];
        io::Read::read_exact(&mut socket, &mut magic)?;
        if magic != super::MAGIC {
            return Err(JoinRefused::NoToken);
        }
        let tls = self.tls()?;
        let connection = ServerConnection::new(tls.for_strangers()?).map_err(io::Error::other)?;
        let mut stream = StreamOwned::new(connection, socket);
        let ask: Ask = talk::receive(&mut stream)?;
        let answer = match self.judge(tls, &ask) {
            Ok(welcome) => {
                tracing::info!(node = ask.name, "a machine was let into the cluster by a token");
                Answer::Admitted(Box::new(welcome))
            }
            Err(error) => {
                tracing::warn!(node = ask.name, reason = crate::admin::chain(&error), "a machine was not let in");
                Answer::Refused(crate::admin::chain(&error))
            }
        };
        talk::send(&mut stream, &answer)?;
        stream.conn.send_close_notify();
        Ok(stream.conn.complete_io(&mut stream.sock).map(drop)?)
    }

    fn judge(&self, tls: &Tls, ask: &Ask) -> Result<Welcome, JoinRefused> {
        if ask.version != VERSION {
            return Err(JoinRefused::Version);
        }
        let hash = hash(&ask.secret);
        if !self.issued().iter().any(|one| one.hash == hash && one.until > Instant::now()) {
            return Err(JoinRefused::NoToken);
        }
        let name: Name = ask.name.parse().map_err(|_| JoinRefused::BadName)?;
        let is_taken = self.store.list(Kind::Node)?.into_iter().any(|found| match found.record {
            Record::Node(node) => node.name == name && node.state != NodeState::Removed,
            _ => false,
        });
        if is_taken {
            return Err(JoinRefused::NameTaken(name));
        }
        let authority = self.authority(tls)?;
        // Its id stands in the certificate, so that it can be told from a later node of the same name.
        let node = NodeId::from_bytes(crate::clock::random_id());
        let certificate = authority.sign_node(name.as_str(), node, &ask.public)?;
        // Spent with the first certificate, and only then: who chose a wrong name tries again.
        let mut issued = self.issued();
        let before = issued.len();
        issued.retain(|one| one.hash != hash);
        if issued.len() == before {
            return Err(JoinRefused::NoToken);
        }
        let target_prefix = self.settings.iscsi.target_prefix.clone();
        let authority = authority.certificate().to_owned();
        Ok(Welcome { certificate, authority, target_prefix, store: self.store_way(tls) })
    }

    fn store_way(&self, peers: &Tls) -> StoreWay {
        let other =
            |authority: &[u8]| (authority != peers.authority).then(|| String::from_utf8_lossy(authority).into_owned());
        match &self.settings.store {
            StoreChoice::Etcd { endpoints, prefix, tls, user, .. } => StoreWay {
                kind: "etcd".into(),
                addresses: endpoints.clone(),
                is_encrypted: tls.is_some(),
                authority: tls.as_ref().and_then(|tls| other(&tls.authority)),
                name: tls.as_ref().and_then(|tls| tls.name.clone()),
                prefix: Some(prefix.clone()),
                user: user.as_ref().map(|(user, _)| user.clone()),
                password: user.as_ref().map(|(_, password)| Password::new(password)),
            },
            StoreChoice::Arbiter { addresses, tls } => StoreWay {
                kind: "arbiter".into(),
                addresses: addresses.iter().map(ToString::to_string).collect(),
                is_encrypted: tls.is_some(),
                authority: tls.as_ref().and_then(|(tls, _)| other(&tls.authority)),
                name: tls.as_ref().map(|(_, name)| name.clone()),
                prefix: None,
                user: None,
                password: None,
            },
            StoreChoice::Local => StoreWay {
                kind: "local".into(),
                addresses: Vec::new(),
                is_encrypted: false,
                authority: None,
                name: None,
                prefix: None,
                user: None,
                password: None,
            },
        }
    }

    fn issued(&self) -> MutexGuard<'_, Vec<Issued>> {
        // Every change is one insertion or removal.
        self.issued.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl std::fmt::Debug for Reception {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Reception({} tokens)", self.issued().len())
    }
}

/// A machine is not let in.
#[derive(Debug, thiserror::Error)]
pub(crate) enum JoinRefused {
    #[error("the token is not good: it was used already, is older than 15 minutes, or the node was restarted since")]
    NoToken,
    #[error("the two run versions of the program that do not know each other: use the same on both")]
    Version,
    #[error("use 1 to 63 of a-z, 0-9, `-` and `.` as the name, with a letter or digit at both ends")]
    BadName,
    #[error("there is already a node `{0}`: choose another name")]
    NameTaken(Name),
    #[error("the config store cannot be asked")]
    Store(#[from] StoreError),
    #[error(transparent)]
    Token(#[from] TokenError),
    #[error(transparent)]
    Certificates(#[from] ConfigError),
    #[error("the connection broke")]
    Socket(#[from] io::Error),
}

fn hash(secret: &[u8; SECRET_BYTES]) -> [u8; 32] {
    let mut bytes = [0; 32];
    bytes.copy_from_slice(digest(&SHA256, secret).as_ref());
    bytes
}
