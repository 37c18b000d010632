//! Text requests in full feature phase (RFC 7143 §11.10, §11.11): SendTargets, and a new segment length.
//!
//! Both sides may need several PDUs. A transfer tag ties them together; a request with another tag begins anew.

use dyad_payload::Payload;

use super::{Io, Session};
use crate::event::{CloseReason, DiscoveredTarget, DiscoveryScope, Event};
use crate::negotiate::Offers;
use crate::pdu::{Bhs, NO_TAG, RejectReason, TextRequest, TextResponse};
use crate::text::{self, PairReader, TextError, TextWriter};

/// Text of one request, in bytes; hosts send one key.
const REQUEST_BYTES_MAX: usize = 64 << 10;

/// Keys of one request that are not understood.
const NOT_UNDERSTOOD_MAX: usize = 64;

/// Text of one answer, in bytes: thousands of targets. What is beyond is not shown.
const ANSWER_BYTES_MAX: usize = 1 << 20;

/// A request and its answer.
#[derive(Debug)]
pub(super) struct TextExchange {
    request: TextRequest,
    /// Under which the host goes on.
    transfer_tag: u32,
    reader: PairReader,
    bytes: usize,
    offers: Offers,
    send_targets: Option<String>,
    not_understood: Vec<String>,
    /// The node was asked for targets.
    is_waiting: bool,
    answer: Vec<u8>,
    sent: usize,
}

#[derive(Debug)]
struct BadText;

impl From<TextError> for BadText {
    fn from(_: TextError) -> Self {
        Self
    }
}

impl Session {
    pub(super) fn on_text_request(&mut self, bhs: &Bhs, data: &Payload, io: &mut Io<'_>) -> Result<(), CloseReason> {
        let Ok(request) = TextRequest::parse(bhs) else { return Ok(()) };
        let mut exchange = match (self.text.take(), request.transfer_tag) {
            (Some(waiting), _) if waiting.is_waiting => {
                self.text = Some(waiting);
                self.reject(bhs, RejectReason::Protocol, io); // §11.10: one at a time
                return Ok(());
            }
            (_, NO_TAG) => self.new_exchange(request),
            (Some(known), tag) if known.transfer_tag == tag => TextExchange { request, ..known },
            _ => {
                self.reject(bhs, RejectReason::InvalidField, io);
                return Ok(());
            }
        };
        if exchange.sent < exchange.answer.len() {
            self.text = Some(exchange); // the host asks for the rest
            self.send_text(io);
            return Ok(());
        }
        exchange.bytes += data.len();
        if exchange.bytes > REQUEST_BYTES_MAX {
            self.reject(bhs, RejectReason::LongOperation, io);
            return Ok(());
        }
        let is_contradiction = request.is_final && request.is_continued; // §11.10.2
        if is_contradiction || exchange.read(data, !request.is_continued).is_err() {
            self.reject(bhs, RejectReason::Protocol, io);
            return Ok(());
        }
        let is_complete = !request.is_continued;
        self.text = Some(exchange);
        if is_complete {
            self.answer_text(bhs, io)
        } else {
            self.send_text(io)
        }
        Ok(())
    }

    fn new_exchange(&mut self, request: TextRequest) -> TextExchange {
        self.text_serial = self.text_serial.wrapping_add(1) & !(1 << 31);
        TextExchange {
            request,
            transfer_tag: self.text_serial,
            reader: PairReader::default(),
            bytes: 0,
            offers: Offers::default(),
            send_targets: None,
            not_understood: Vec::new(),
            is_waiting: false,
            answer: Vec::new(),
            sent: 0,
        }
    }

    /// The request is complete.
    fn answer_text(&mut self, bhs: &Bhs, io: &mut Io<'_>) {
        let Some(exchange) = &mut self.text else { return };
        let mut reply = TextWriter::default();
        if exchange.offers.answer_in_full_feature(&mut self.parameters, &mut reply).is_err() {
            self.text = None;
            return self.reject(bhs, RejectReason::InvalidField, io);
        }
        for key in exchange.not_understood.drain(..) {
            reply.push(&key, "NotUnderstood");
        }
        let asked = exchange.send_targets.take();
        let scope = asked.as_ref().map(|value| scope_of(value, self.key.target.as_deref()));
        match scope {
            None => {}
            Some(Some(scope)) => {
                exchange.is_waiting = true;
                io.events.push_back(Event::Discover(scope));
            }
            Some(None) => reply.push("SendTargets", "Reject"),
        }
        exchange.answer = reply.into_bytes();
        exchange.sent = 0;
        if !exchange.is_waiting {
            self.send_text(io);
        }
    }

    /// The node's answer to SendTargets.
    pub fn discovered(&mut self, targets: &[DiscoveredTarget], io: &mut Io<'_>) {
        let Some(exchange) = self.text.as_mut().filter(|exchange| exchange.is_waiting) else { return };
        exchange.is_waiting = false;
        for target in targets {
            let mut text = TextWriter::default();
            text.push("TargetName", &target.name);
            for (address, group) in &target.portals {
                text.push("TargetAddress", format_args!("{address},{group}"));
            }
            if exchange.answer.len() + text.len() > ANSWER_BYTES_MAX {
                break;
            }
            exchange.answer.extend_from_slice(text.as_bytes());
        }
        self.send_text(io);
    }

    /// Sends the next part of the answer, which may be empty.
    fn send_text(&mut self, io: &mut Io<'_>) {
        let Some(mut exchange) = self.text.take() else { return };
        let rest = &exchange.answer[exchange.sent..];
        let take = rest.len().min(self.parameters.send_segment_bytes_max as usize);
        let is_continued = take < rest.len();
        // §11.10.1: final only if the request was.
        let is_final = exchange.request.is_final && !is_continued;
        let response = TextResponse {
            is_final,
            is_continued,
            lun: exchange.request.lun,
            task_tag: exchange.request.task_tag,
            transfer_tag: if is_final { NO_TAG } else { exchange.transfer_tag },
            numbers: self.numbers(),
        };
        io.output.push_small(response.emit(), &rest[..take]);
        exchange.sent += take;
        if !is_final {
            self.text = Some(exchange);
        }
    }
}

impl TextExchange {
    fn read(&mut self, data: &Payload, is_end: bool) -> Result<(), BadText> {
        let Self { reader, offers, send_targets, not_understood, .. } = self;
        let mut take = |key: &str, value: &str| {
            if offers.note(key, value).map_err(|_| BadText)? {
                return Ok(());
            }
            if key == "SendTargets" && send_targets.is_none() {
                *send_targets = Some(value.to_owned());
                return Ok(());
            }
            if key == "SendTargets" || not_understood.len() == NOT_UNDERSTOOD_MAX {
                return Err(BadText);
            }
            not_understood.push(key.to_owned());
            Ok(())
        };
        for part in data.slices() {
            reader.feed(part, &mut take)?;
        }
        if is_end {
            reader.finish(&mut take)?;
        }
        Ok(())
    }
}

/// Appendix C: what a value of SendTargets asks for, `None` if it may not here.
fn scope_of(value: &str, own: Option<&str>) -> Option<DiscoveryScope> {
    match (value, own) {
        ("All", None) => Some(DiscoveryScope::All),
        ("", Some(own)) => Some(DiscoveryScope::Target(own.to_owned())),
        ("All" | "", _) => None,
        (name, Some(own)) if name != own => None,
        (name, _) if text::is_name(name) => Some(DiscoveryScope::Target(name.to_owned())),
        _ => None,
    }
}
