//! The few requests that are made, and their answers.

use dyad_cluster::Version;
use dyad_units::StoreId;

use super::keys::beyond;
use super::proto::compare::{CompareResult, CompareTarget, TargetUnion};
use super::proto::request_op::Request;
use super::proto::response_op::Response;
use super::proto::{
    Compare, DeleteRangeRequest, KeyValue, PutRequest, RangeRequest, RangeResponse, RequestOp, TxnRequest, TxnResponse,
};

/// Records of one answer. At [`dyad_cluster::STORED_BYTES_MAX`] each they fit [`ANSWER_BYTES_MAX`].
pub(super) const PAGE: i64 = 256;
/// Bound of an answer.
pub(super) const ANSWER_BYTES_MAX: usize = 32 << 20;
/// A revision that no record has.
const NO_REVISION: i64 = i64::MAX;

pub(super) fn one(key: Vec<u8>) -> RangeRequest {
    RangeRequest { key, ..RangeRequest::default() }
}

/// The first page of what starts with `prefix`.
pub(super) fn first_page(prefix: &[u8]) -> RangeRequest {
    RangeRequest { key: prefix.to_vec(), range_end: beyond(prefix), limit: PAGE, revision: 0 }
}

/// The page after `last`, as things were at `revision`.
pub(super) fn next_page(prefix: &[u8], last: &KeyValue, revision: i64) -> RangeRequest {
    let key = [last.key.as_slice(), &[0]].concat();
    RangeRequest { key, range_end: beyond(prefix), limit: PAGE, revision }
}

/// Reads `range`, if the store has this seed of its identity; else the identity.
pub(super) fn read(store: Vec<u8>, seed: StoreId, range: RangeRequest) -> TxnRequest {
    TxnRequest {
        compare: vec![is_store(store.clone(), seed)],
        success: vec![op(Request::RequestRange(range))],
        failure: vec![op(Request::RequestRange(one(store)))],
    }
}

/// Puts `record` (none: deletes) if the record is at `expected` and the store is ours; else reads both.
pub(super) fn set(
    store: Vec<u8>,
    seed: StoreId,
    key: Vec<u8>,
    expected: Option<Version>,
    record: Option<Vec<u8>>,
) -> TxnRequest {
    // A record that is not there has revision 0.
    let revision = match expected {
        None => 0,
        Some(Version(0)) => NO_REVISION,
        Some(Version(version)) => i64::try_from(version).unwrap_or(NO_REVISION),
    };
    let change = match record {
        Some(value) => Request::RequestPut(PutRequest { key: key.clone(), value }),
        None => Request::RequestDeleteRange(DeleteRangeRequest { key: key.clone() }),
    };
    let is_expected = Compare {
        result: CompareResult::Equal.into(),
        target: CompareTarget::Mod.into(),
        key: key.clone(),
        target_union: Some(TargetUnion::ModRevision(revision)),
    };
    TxnRequest {
        compare: vec![is_store(store.clone(), seed), is_expected],
        success: vec![op(change)],
        failure: vec![op(Request::RequestRange(one(store))), op(Request::RequestRange(one(key)))],
    }
}

/// Writes the identity unless there is one.
pub(super) fn create(store: Vec<u8>, seed: StoreId) -> TxnRequest {
    let is_absent = Compare {
        result: CompareResult::Equal.into(),
        target: CompareTarget::Mod.into(),
        key: store.clone(),
        target_union: Some(TargetUnion::ModRevision(0)),
    };
    let put = PutRequest { key: store, value: seed.to_string().into_bytes() };
    TxnRequest { compare: vec![is_absent], success: vec![op(Request::RequestPut(put))], failure: Vec::new() }
}

/// The ranges of a transaction's answer, in order.
pub(super) fn ranges(answer: TxnResponse) -> impl Iterator<Item = RangeResponse> {
    answer.responses.into_iter().filter_map(|response| match response.response {
        Some(Response::ResponseRange(range)) => Some(range),
        _ => None,
    })
}

/// The seed of a store's identity, from the value under its key.
pub(super) fn seed(value: &[u8]) -> Option<StoreId> {
    std::str::from_utf8(value).ok()?.parse().ok()
}

fn is_store(key: Vec<u8>, seed: StoreId) -> Compare {
    Compare {
        result: CompareResult::Equal.into(),
        target: CompareTarget::Value.into(),
        key,
        target_union: Some(TargetUnion::Value(seed.to_string().into_bytes())),
    }
}

fn op(request: Request) -> RequestOp {
    RequestOp { request: Some(request) }
}
