//! Letters in words.

use dyad_mirror::{Beat, BeatAnswer, PeerMessage};

use crate::player::{describe, describe_reply};

/// What a letter says, in one line.
pub(super) fn letter(message: &PeerMessage) -> String {
    match message {
        PeerMessage::Record { record } => format!("record: {}", super::world::brief(record)),
        PeerMessage::Open { image, record } => format!("open {}: {}", short(image), super::world::brief(record)),
        PeerMessage::Refused { image, record } => format!("refused {}: {}", short(image), super::world::brief(record)),
        PeerMessage::Ask { image, link, token, request } => {
            format!("ask {} on link {link}: {}", short(image), describe(*token, request))
        }
        PeerMessage::Told { image, link, token, reply } => {
            format!("told by {} on link {link}: {token:?} {}", short(image), describe_reply(reply))
        }
        PeerMessage::Forward { id, epoch, age, .. } => format!("forward {id} of epoch {epoch}, {age} old"),
        PeerMessage::Forwarded { id, result } => {
            let said = match result {
                Ok(_) => "ok".to_owned(),
                Err(error) => format!("{error:?}"),
            };
            format!("forwarded {id}: {said}")
        }
        other => format!("{other:?}"),
    }
}

fn short(image: &dyad_units::ImageId) -> String {
    let bytes = image.to_bytes();
    format!("{}.{}", bytes[0] - 0xe0, bytes[1])
}

/// What a beat lists, and what is granted of it.
pub(super) fn leases(beat: &Beat, answer: &BeatAnswer) -> String {
    let list = |pairs: &[(dyad_units::SegmentId, dyad_units::Epoch)]| {
        let pairs = pairs.iter().map(|(segment, epoch)| format!("{}@{epoch}", segment.to_bytes()[0] - 0xc0));
        pairs.collect::<Vec<_>>().join(" ")
    };
    format!("lists {}; granted {}", list(&beat.owned), list(&answer.granted))
}
