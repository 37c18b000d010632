//! The text of one login request, taken apart while it arrives.

use crate::chap::ChapKeys;
use crate::event::LoginRefusal;
use crate::negotiate::Offers;
use crate::text::{self, PairReader, TextError};

/// Keys that we do not know, in one request. Initiators send none to a few of their vendors' own.
const NOT_UNDERSTOOD_MAX: usize = 16;

/// Longest value of a key that is neither a CHAP challenge nor a name (RFC 7143 §6.1).
const VALUE_BYTES_MAX: usize = 255;

/// What a request says beside its operational offers.
#[derive(Debug, Default)]
pub(crate) struct RequestText {
    reader: PairReader,
    pub initiator: Option<String>,
    pub initiator_alias: Option<String>,
    pub target: Option<String>,
    pub session_type: Option<String>,
    pub auth_methods: Option<String>,
    pub chap: ChapKeys,
    pub not_understood: Vec<String>,
}

impl From<TextError> for LoginRefusal {
    fn from(_: TextError) -> Self {
        Self::InitiatorError
    }
}

impl RequestText {
    /// Takes some more bytes.
    pub fn feed(&mut self, bytes: &[u8], offers: &mut Offers) -> Result<(), LoginRefusal> {
        let mut reader = std::mem::take(&mut self.reader);
        let result = reader.feed(bytes, |key, value| self.take(key, value, offers));
        self.reader = reader;
        result
    }

    /// The request is complete.
    pub fn finish(&mut self, offers: &mut Offers) -> Result<(), LoginRefusal> {
        let mut reader = std::mem::take(&mut self.reader);
        reader.finish(|key, value| self.take(key, value, offers))
    }

    fn take(&mut self, key: &str, value: &str, offers: &mut Offers) -> Result<(), LoginRefusal> {
        if offers.note(key, value).map_err(|_| LoginRefusal::InitiatorError)? {
            return Ok(());
        }
        let is_name = matches!(key, "InitiatorName" | "TargetName");
        if is_name && !text::is_name(value) || key != "CHAP_C" && value.len() > VALUE_BYTES_MAX {
            return Err(LoginRefusal::InitiatorError);
        }
        let slot = match key {
            "InitiatorName" => Some(&mut self.initiator),
            "InitiatorAlias" => Some(&mut self.initiator_alias),
            "TargetName" => Some(&mut self.target),
            "SessionType" => Some(&mut self.session_type),
            "AuthMethod" => Some(&mut self.auth_methods),
            _ => self.chap.slot(key),
        };
        match slot {
            Some(Some(_)) => return Err(LoginRefusal::InitiatorError), // §6.2: a key comes once
            Some(slot) => *slot = Some(value.to_owned()),
            None if self.not_understood.len() == NOT_UNDERSTOOD_MAX => return Err(LoginRefusal::InitiatorError),
            None => self.not_understood.push(key.to_owned()),
        }
        Ok(())
    }
}
