//! Requests by name, to fail and to count them.

use dyad_contract::image::Request;

pub fn name(request: &Request) -> &'static str {
    match request {
        Request::Read { .. } => "read",
        Request::Write(_) => "write",
        Request::Unmap(_) => "unmap",
        Request::Flush => "flush",
        Request::Close { .. } => "close",
        Request::Closed { .. } => "closed",
        Request::Grant { .. } => "grant",
        Request::GiveBack { .. } => "give-back",
        Request::Reserve { .. } => "reserve",
        Request::Release { .. } => "release",
        Request::Record { .. } => "record",
        Request::Survey => "survey",
        Request::Show => "show",
        Request::Changed { .. } => "changed",
        Request::Copied { .. } => "copied",
        Request::Progress { .. } => "progress",
        Request::Examine { .. } => "examine",
        Request::Mend(_) => "mend",
        Request::MendUnmap(_) => "mend-unmap",
        Request::Adopt { .. } => "adopt",
        Request::Settled { .. } => "settled",
    }
}
