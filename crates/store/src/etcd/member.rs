//! One connection to one member, which leads to the store that was agreed upon or is not used.

use std::error::Error;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use dyad_cluster::{StoreError, Version};
use dyad_units::StoreId;
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio_stream::StreamExt as _;
use tonic::metadata::{Ascii, MetadataValue};
use tonic::transport::{Channel, Endpoint, Uri};
use tonic::{Code, Request, Status, Streaming};

use super::config::Checked;
use super::keys::identity;
use super::outcome::{Lost, causes, explain, unavailable};
use super::proto::auth_client::AuthClient;
use super::proto::kv_client::KvClient;
use super::proto::watch_client::WatchClient;
use super::proto::watch_request::RequestUnion;
use super::proto::{
    AuthenticateRequest, RangeRequest, RangeResponse, TxnRequest, TxnResponse, WatchCreateRequest, WatchRequest,
    WatchResponse,
};
use super::request::{ANSWER_BYTES_MAX, one, seed};

/// For a member's answer to a read, and to the questions of a new connection. A member whose fellows just chose a
/// new first among them answers within etcd's election timeout of a second, or another is asked.
pub(super) const READ_TIME: Duration = Duration::from_millis(1500);

type BoxError = Box<dyn Error + Send + Sync>;

/// A connection.
#[derive(Clone)]
pub(super) struct Member {
    kv: KvClient<Channel>,
    watch: WatchClient<Channel>,
    token: Option<MetadataValue<Ascii>>,
    pub(super) found: Option<Found>,
    /// Tells connections apart.
    pub(super) number: u64,
}

/// Which store a connection leads to.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Found {
    /// What stands under the store's key.
    pub(super) seed: StoreId,
    pub(super) identity: StoreId,
    /// The store's version when the connection was made.
    pub(super) version: Version,
}

impl Member {
    /// Connects, shows who we are, and asks which store it is; none may be there yet.
    pub(super) async fn connect(config: &Checked, at: usize, number: u64) -> Result<Self, StoreError> {
        let endpoint = &config.endpoints[at];
        let channel = connect_once(endpoint).await.map_err(|error| {
            let mut reason = format!("{}: {error}", endpoint.uri());
            causes(&mut reason, error.source());
            unavailable(reason)
        })?;
        let token = match &config.user {
            Some((name, password)) => authenticate(channel.clone(), name, password).await?,
            None => None,
        };
        let kv = KvClient::new(channel.clone()).max_decoding_message_size(ANSWER_BYTES_MAX);
        let watch = WatchClient::new(channel).max_decoding_message_size(ANSWER_BYTES_MAX);
        let mut member = Self { kv, watch, token, found: None, number };
        let answer = member.range(one(config.keys.store())).await.map_err(|status| explain(&status))?;
        let header = answer.header.unwrap_or_default();
        let Some(entry) = answer.kvs.first() else { return Ok(member) };
        let seed = seed(&entry.value).ok_or_else(|| unavailable("what stands under the store's key is no identity"))?;
        let version = version(header.revision);
        member.found = Some(Found { seed, identity: identity(seed, header.cluster_id), version });
        Ok(member)
    }

    /// The store it leads to, if that is `wanted` and not older than `seen`, which was known before it was reached.
    pub(super) fn check(&self, wanted: StoreId, seen: Version) -> Result<Found, StoreError> {
        match self.found {
            None => Err(unavailable("there is no store below its prefix in etcd")),
            Some(found) if found.identity != wanted => {
                Err(StoreError::Other { expected: wanted, found: found.identity })
            }
            Some(found) if found.version < seen => Err(StoreError::WentBack { seen, found: found.version }),
            Some(found) => Ok(found),
        }
    }

    pub(super) async fn range(&mut self, range: RangeRequest) -> Result<RangeResponse, Status> {
        let request = self.request(range);
        in_time(READ_TIME, self.kv.range(request)).await
    }

    pub(super) async fn txn(&mut self, txn: TxnRequest, time: Duration) -> Result<TxnResponse, Status> {
        let request = self.request(txn);
        in_time(time, self.kv.txn(request)).await
    }

    /// Changes from `start` on.
    pub(super) async fn watch(&mut self, prefix: &[u8], start: i64) -> Result<Streaming<WatchResponse>, Status> {
        let create = WatchCreateRequest {
            key: prefix.to_vec(),
            range_end: super::keys::beyond(prefix),
            start_revision: start,
            progress_notify: true,
            fragment: true,
        };
        let first = WatchRequest { request_union: Some(RequestUnion::CreateRequest(create)) };
        // Nothing more is asked, but a stream of requests that ends would end the stream of answers.
        let request = self.request(tokio_stream::once(first).chain(tokio_stream::pending()));
        in_time(READ_TIME, self.watch.watch(request)).await
    }

    fn request<T>(&self, message: T) -> Request<T> {
        let mut request = Request::new(message);
        // A member that is cut off from its fellows says so at once.
        request.metadata_mut().insert("hasleader", MetadataValue::from_static("true"));
        if let Some(token) = &self.token {
            request.metadata_mut().insert("token", token.clone());
        }
        request
    }
}

/// Within the time, or it is not known what became of it.
async fn in_time<T>(
    time: Duration,
    call: impl Future<Output = Result<tonic::Response<T>, Status>>,
) -> Result<T, Status> {
    match tokio::time::timeout(time, call).await {
        Ok(answer) => answer.map(tonic::Response::into_inner),
        Err(_) => Err(Status::deadline_exceeded("there was no answer in time")),
    }
}

/// A channel that connects now and never again: tonic's own would reconnect unseen, to whatever stands there then.
async fn connect_once(endpoint: &Endpoint) -> Result<Channel, tonic::transport::Error> {
    let is_used = Arc::new(AtomicBool::new(false));
    let connector = tower::service_fn(move |uri: Uri| {
        let is_used = is_used.swap(true, Ordering::AcqRel);
        async move {
            if is_used {
                return Err(BoxError::from(Lost));
            }
            let host = uri.host().unwrap_or_default().trim_start_matches('[').trim_end_matches(']');
            let socket = TcpStream::connect((host, uri.port_u16().unwrap_or(2379))).await?;
            socket.set_nodelay(true)?;
            Ok(TokioIo::new(socket))
        }
    });
    endpoint.connect_with_connector(connector).await
}

/// The token of a user, for this connection; none: etcd asks for none.
async fn authenticate(
    channel: Channel,
    name: &str,
    password: &str,
) -> Result<Option<MetadataValue<Ascii>>, StoreError> {
    let mut client = AuthClient::new(channel);
    let request = AuthenticateRequest { name: name.to_owned(), password: password.to_owned() };
    match in_time(READ_TIME, client.authenticate(request)).await {
        Ok(answer) => answer.token.parse().map(Some).map_err(|_| unavailable("etcd's token cannot be sent")),
        Err(status) if status.code() == Code::FailedPrecondition => Ok(None),
        Err(status) => Err(explain(&status)),
    }
}

/// A revision as a version; etcd's are never negative.
pub(super) fn version(revision: i64) -> Version {
    Version(u64::try_from(revision).unwrap_or(0))
}
