//! Any bytes at all: no panic, bounded memory, and a silent host is dropped in the end (see `common::actor`).
//!
//! The fuzz targets in `fuzz/` drive the same actor; this is their smoke run on the stable toolchain.

mod common;

use common::actor::{Actor, Choices, tight};
use common::{INITIATOR, Pair, TARGET, pattern};
use dyad_iscsi::pdu::{Bhs, Opcode, Stage};
use dyad_iscsi::{CloseReason, Event, Offers, Parameters, Settings, text};
use proptest::prelude::{ProptestConfig, any, prop};
use proptest::{prop_assert, prop_assert_eq, proptest};

/// The bytes of a login, and of each kind of request after it.
fn conversation(extra: &[&str]) -> (Vec<u8>, Vec<Vec<u8>>) {
    let mut pair = Pair::new(tight());
    let names = [format!("InitiatorName={INITIATOR}"), format!("TargetName={TARGET}")];
    let mut text: Vec<u8> = names.iter().flat_map(|pair| [pair.as_bytes(), b"\0"].concat()).collect();
    extra.iter().for_each(|pair| text.extend([pair.as_bytes(), b"\0"].concat()));
    let login = pair.encode(pair.login_header(Stage::Operational, Some(Stage::FullFeature)).emit(), &text);
    pair.header_digest = extra.contains(&"HeaderDigest=CRC32C");
    pair.data_digest = extra.contains(&"DataDigest=CRC32C");
    let mut requests = Vec::new();
    for at in 0..24u32 {
        let data = pattern(at as usize * 100);
        let bytes = match at % 8 {
            0 => {
                let command = pair.command(true, false, 5000);
                pair.encode(command.emit(), &[])
            }
            1 | 2 => {
                let mut command = pair.command(false, true, 8192);
                command.is_final = at % 8 == 1;
                pair.encode(command.emit(), &data)
            }
            3 => pair.encode(
                dyad_iscsi::pdu::DataOut {
                    is_final: at % 2 == 0,
                    lun: 0,
                    task_tag: pair.next_tag - 1,
                    transfer_tag: if at > 8 { u32::MAX } else { 0x0800 },
                    exp_stat_sn: 0,
                    data_sn: 0,
                    offset: 0,
                }
                .emit(),
                &data,
            ),
            4 => pair.encode(Bhs::new(Opcode::TaskRequest).immediate(true), &[]),
            5 => pair.encode(Bhs::new(Opcode::NopOut).immediate(true), &data),
            6 => pair.encode(Bhs::new(Opcode::TextRequest).immediate(true), b"SendTargets=All\0"),
            _ => pair.encode(Bhs::new(Opcode::Snack), &[]),
        };
        requests.push(bytes);
    }
    (login, requests)
}

/// Failures are printed whole; there is nothing to remember in a file.
fn config() -> ProptestConfig {
    ProptestConfig { failure_persistence: None, ..ProptestConfig::default() }
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn any_bytes_into_a_fresh_connection(
        bytes in prop::collection::vec(any::<u8>(), 0..4096),
        choices in prop::collection::vec(any::<u8>(), 0..64),
    ) {
        Actor::new(tight()).run(&bytes, &mut Choices(&choices));
    }

    #[test]
    fn any_headers_into_a_session(
        headers in prop::collection::vec((0u8..=0x3f, any::<[u8; 47]>(), 0usize..64), 0..64),
        choices in prop::collection::vec(any::<u8>(), 0..128),
    ) {
        let (mut bytes, _) = conversation(&["InitialR2T=No"]);
        for (opcode, rest, len) in headers {
            let mut header = [0; 48];
            header[0] = opcode | 0x40;
            header[1..].copy_from_slice(&rest);
            header[4] = 0;
            let mut bhs = Bhs::from_bytes(header);
            bhs.set_data_len(len);
            bytes.extend(bhs.as_bytes());
            bytes.extend(vec![0x41; len.next_multiple_of(4)]);
        }
        // The first choices admit and start.
        let choices = [&[200, 0, 0, 0, 0, 0][..], &choices].concat();
        Actor::new(tight()).run(&bytes, &mut Choices(&choices));
    }

    #[test]
    fn mutated_conversations(
        has_digests in any::<bool>(),
        order in prop::collection::vec(0usize..24, 0..40),
        flips in prop::collection::vec((any::<prop::sample::Index>(), 0u8..8), 0..6),
        choices in prop::collection::vec(any::<u8>(), 0..128),
    ) {
        let digests = ["HeaderDigest=CRC32C", "DataDigest=CRC32C", "InitialR2T=No"];
        let (mut bytes, requests) = conversation(if has_digests { &digests } else { &digests[2..] });
        for at in order {
            bytes.extend(&requests[at]);
        }
        for (at, bit) in flips {
            let at = at.index(bytes.len());
            bytes[at] ^= 1 << bit;
        }
        Actor::new(tight()).run(&bytes, &mut Choices(&choices));
    }

    #[test]
    fn any_text_is_read_alike_however_it_is_cut(text in prop::collection::vec(0u8..128, 0..300), at in 0usize..300) {
        let read = |parts: &[&[u8]]| -> Result<Vec<String>, text::TextError> {
            let mut reader = text::PairReader::default();
            let mut pairs = Vec::new();
            let mut each = |key: &str, value: &str| -> Result<(), text::TextError> {
                pairs.push(format!("{key}={value}"));
                Ok(())
            };
            for part in parts {
                reader.feed(part, &mut each)?;
            }
            reader.finish(&mut each)?;
            Ok(pairs)
        };
        let (head, tail) = text.split_at(at.min(text.len()));
        prop_assert_eq!(read(&[&text]).is_ok(), read(&[head, tail]).is_ok());
        if let Ok(pairs) = read(&[&text]) {
            prop_assert_eq!(pairs, read(&[head, tail]).unwrap());
        }
    }

    #[test]
    fn whatever_is_offered_the_results_keep_their_bounds(
        offers in prop::collection::vec((0usize..8, "[0-9]{1,9}|Yes|No|None|CRC32C"), 0..12),
    ) {
        let keys = ["MaxBurstLength", "FirstBurstLength", "MaxOutstandingR2T", "InitialR2T", "ImmediateData",
            "MaxRecvDataSegmentLength", "DefaultTime2Wait", "HeaderDigest"];
        let (mut noted, mut agreed) = (Offers::default(), Parameters::default());
        for (key, value) in &offers {
            let _ = noted.note(keys[*key], value);
        }
        let settings = Settings::default();
        if noted.answer(&settings, false, &mut agreed, &mut text::TextWriter::default()).is_ok() {
            prop_assert!(agreed.first_burst_bytes_max <= agreed.burst_bytes_max);
            prop_assert!(agreed.burst_bytes_max >= 512 && agreed.burst_bytes_max <= settings.burst_bytes_max);
            prop_assert!((1..=8).contains(&agreed.outstanding_r2ts_max));
            prop_assert!(agreed.send_segment_bytes_max >= 512);
            prop_assert!(agreed.time2wait >= 2);
        }
    }
}

#[test]
fn a_valid_conversation_cut_short_at_every_byte_ends_well() {
    let (login, requests) = conversation(&["InitialR2T=No"]);
    let bytes = [login, requests[..8].concat()].concat();
    for end in 0..bytes.len() {
        Actor::new(tight()).run(&bytes[..end], &mut Choices(&[]));
    }
}

/// A host that opens many commands at a time and floods the connection with answers to give.
#[test]
fn a_flood_of_pings_does_not_grow_the_queue_without_bound() {
    let settings = Settings { output_bytes_max: 1 << 18, ..Settings::default() };
    let mut pair = Pair::logged_in_with(settings, &[]);
    pair.is_host_reading = false;
    let ping = Bhs::new(Opcode::NopOut).immediate(true);
    for _ in 0..2000 {
        pair.send(ping, &pattern(1000));
    }
    assert!(!pair.connection.wants_input());
    assert!(pair.slab.usage().bytes_total < 64 << 20);
    assert!(pair.unsent() > 1_000_000);
    assert!(!pair.events.iter().any(|event| matches!(event, Event::Closed(CloseReason::Protocol(_)))));
}
