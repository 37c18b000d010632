//! Any text into the reader and the negotiation, cut at a place of the fuzzer's choice.
#![no_main]

use dyad_iscsi::text::{PairReader, TextError, TextWriter};
use dyad_iscsi::{Offers, Parameters, Settings};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let Some((&cut, text)) = data.split_first() else { return };
    let (head, tail) = text.split_at(text.len().min(usize::from(cut)));
    let (mut reader, mut offers) = (PairReader::default(), Offers::default());
    let mut take = |key: &str, value: &str| -> Result<(), TextError> {
        let _ = offers.note(key, value);
        let _ = dyad_iscsi::text::binary(value, 1024);
        Ok(())
    };
    let result = reader.feed(head, &mut take).and_then(|()| reader.feed(tail, &mut take));
    if result.and_then(|()| reader.finish(&mut take)).is_err() {
        return;
    }
    let (mut agreed, mut reply) = (Parameters::default(), TextWriter::default());
    let settings = Settings::default();
    if offers.answer(&settings, cut & 1 == 1, &mut agreed, &mut reply).is_ok() {
        assert!(agreed.first_burst_bytes_max <= agreed.burst_bytes_max);
        assert!(agreed.send_segment_bytes_max >= 512);
        assert!(agreed.outstanding_r2ts_max >= 1);
        assert!(reply.len() < 4096);
    }
});
