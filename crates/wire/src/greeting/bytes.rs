//! The greeting's control parts.

use dyad_cluster::Name;
use dyad_units::{ClusterId, NodeId, StoreId};

use crate::codec::{Put, Take};
use crate::error::Malformed;
use crate::greeting::{
    Bye, ByeReason, ConnectionKind, Hello, Refusal, RefusalReason, TEXT_BYTES_MAX, Versions, Welcome,
};

const BEATS: u8 = 1;
const SEGMENTS: u8 = 2;

impl Hello {
    pub(crate) fn encode(&self, put: &mut Put<'_>) {
        put_versions(put, self.versions);
        put.bytes(&self.cluster.to_bytes());
        put.bytes(&self.node.to_bytes());
        put.bytes(&self.to.to_bytes());
        put.bytes(&self.store.to_bytes());
        put.incarnation(self.incarnation);
        put.u16(self.reactors);
        let (kind, from, to) = match self.kind {
            ConnectionKind::Beats => (BEATS, 0, 0),
            ConnectionKind::Segments { from, to } => (SEGMENTS, from, to),
        };
        put.bytes(&[kind, 0]);
        put.u16(from);
        put.u16(to);
        put_name(put, &self.name);
    }
}

pub(crate) fn decode_hello(mut take: Take<'_>) -> Result<Hello, Malformed> {
    let versions = take_versions(&mut take)?;
    let cluster = ClusterId::from_bytes(take.array()?);
    let (node, to) = (NodeId::from_bytes(take.array()?), NodeId::from_bytes(take.array()?));
    let store = StoreId::from_bytes(take.array()?);
    let (incarnation, reactors) = (take.incarnation()?, take.u16()?);
    let ([kind, _], from, to_reactor) = (take.array()?, take.u16()?, take.u16()?);
    let kind = match kind {
        BEATS => ConnectionKind::Beats,
        SEGMENTS => ConnectionKind::Segments { from, to: to_reactor },
        _ => return Err(Malformed::Field("connection kind")),
    };
    let name = take_name(&mut take)?;
    Ok(Hello { versions, cluster, node, name, incarnation, store, reactors, to, kind })
}

impl Welcome {
    pub(crate) fn encode(&self, put: &mut Put<'_>) {
        put.u16(self.version);
        put.u16(self.reactors);
        put.bytes(&self.cluster.to_bytes());
        put.bytes(&self.node.to_bytes());
        put.bytes(&self.store.to_bytes());
        put.incarnation(self.incarnation);
        put_name(put, &self.name);
    }
}

pub(crate) fn decode_welcome(mut take: Take<'_>) -> Result<Welcome, Malformed> {
    let (version, reactors) = (take.u16()?, take.u16()?);
    let (cluster, node) = (ClusterId::from_bytes(take.array()?), NodeId::from_bytes(take.array()?));
    let (store, incarnation) = (StoreId::from_bytes(take.array()?), take.incarnation()?);
    let name = take_name(&mut take)?;
    Ok(Welcome { version, cluster, node, name, incarnation, store, reactors })
}

impl Refusal {
    pub(crate) fn encode(&self, put: &mut Put<'_>) {
        put_versions(put, self.versions);
        put.u8(self.reason.code());
        put_text(put, &self.text);
    }
}

pub(crate) fn decode_refusal(mut take: Take<'_>) -> Result<Refusal, Malformed> {
    let versions = take_versions(&mut take)?;
    let reason = RefusalReason::from_code(take.u8()?);
    Ok(Refusal { reason, versions, text: take_text(&mut take)? })
}

impl Bye {
    pub(crate) fn encode(&self, put: &mut Put<'_>) {
        put.u8(self.reason.code());
        put_text(put, &self.text);
    }
}

pub(crate) fn decode_bye(mut take: Take<'_>) -> Result<Bye, Malformed> {
    let reason = ByeReason::from_code(take.u8()?);
    Ok(Bye { reason, text: take_text(&mut take)? })
}

fn put_versions(put: &mut Put<'_>, versions: Versions) {
    put.u16(versions.oldest);
    put.u16(versions.newest);
}

fn take_versions(take: &mut Take<'_>) -> Result<Versions, Malformed> {
    let (oldest, newest) = (take.u16()?, take.u16()?);
    if oldest > newest || oldest == 0 {
        return Err(Malformed::Field("versions"));
    }
    Ok(Versions { oldest, newest })
}

fn put_name(put: &mut Put<'_>, name: &Name) {
    // At most 63 bytes.
    put.u8(name.as_str().len() as u8);
    put.bytes(name.as_str().as_bytes());
}

fn take_name(take: &mut Take<'_>) -> Result<Name, Malformed> {
    let len = take.u8()?;
    let text = str::from_utf8(take.bytes(usize::from(len))?).map_err(|_| Malformed::Field("name"))?;
    text.parse().map_err(|_| Malformed::Field("name"))
}

/// A longer sentence is cut.
fn put_text(put: &mut Put<'_>, text: &str) {
    let text = &text[..text.floor_char_boundary(TEXT_BYTES_MAX)];
    put.u16(text.len() as u16);
    put.bytes(text.as_bytes());
}

/// For a log: what is no text, or would break a line, is replaced.
fn take_text(take: &mut Take<'_>) -> Result<String, Malformed> {
    let len = usize::from(take.u16()?);
    if len > TEXT_BYTES_MAX {
        return Err(Malformed::Field("text"));
    }
    let text = String::from_utf8_lossy(take.bytes(len)?);
    Ok(text.chars().map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect())
}
