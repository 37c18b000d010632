//! SEND DIAGNOSTIC, run to its end on a volume of plain memory.

mod common;

use common::{Bench, field, good, sense};

/// SPC-4 §6.42: the default self-test looks at the medium; there are no pages and no other tests.
#[test]
fn the_default_self_test_verifies_the_first_block_on_every_image() {
    for (mut bench, len) in [(Bench::new(), 512), (Bench::native(), 4096)] {
        good(bench.run(&[0x1d, 0x04, 0, 0, 0, 0]));
        assert_eq!(bench.asked(), [format!("verify 0+{len}")]);
        for flags in [0x00, 0x10, 0x03] {
            good(bench.run(&[0x1d, flags, 0, 0, 0, 0]));
        }
        assert!(bench.asked().is_empty(), "nothing is to be tested");
        for code in 1..8 {
            let response = bench.run(&[0x1d, code << 5, 0, 0, 0, 0]);
            assert_eq!((sense(&response), field(&response)), ((5, 0x24, 0), Some((true, 1, Some(7)))));
        }
        let response = bench.run(&[0x1d, 0x10, 0, 0, 4, 0]);
        assert_eq!((sense(&response), field(&response)), ((5, 0x24, 0), Some((true, 3, None))));
    }
}
