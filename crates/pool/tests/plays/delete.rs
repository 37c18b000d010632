//! Images that are being deleted.

use dyad_contract::image::{ImageError, Reply, Request, Token};
use dyad_pool::{AdminReply, AdminToken};
use dyad_units::{Bytes, Extent, ImageId, Piece};

use crate::cast::{Bench, IMAGE, is_journal};

const OTHER: ImageId = ImageId::from_bytes([8; 16]);

/// Requests to it found no image when its place was cleared.
#[test]
fn an_image_that_is_being_deleted_refuses_requests() {
    let mut bench = Bench::new();
    bench.write(1, 0, &[1; 4096]);
    let image = bench.image.unwrap();
    bench.holds = Some(is_journal);
    bench.pool().delete_image(AdminToken(1), image, IMAGE);
    for request in [Request::Flush, Request::Survey, Request::Read { piece: Piece::whole(Extent(1)) }] {
        let Reply::Failed(error) = bench.ask(request) else { panic!("answered by an image that is deleted") };
        assert_eq!(error, ImageError::Unreadable);
    }
    bench.let_go();
    assert_eq!(bench.administered(), AdminReply::Deleted);
}

/// P3: a slot that the deleted image had given up was free with the next flush of another image, while the committed map
/// still had it.
#[test]
fn slots_of_a_deleted_image_are_free_only_when_the_journal_says_that_it_is_gone() {
    let mut bench = Bench::new();
    let other = bench.create(OTHER, Bytes::gib(1));
    for extent in 0..8 {
        bench.write(extent, 0, &[1; 4096]);
    }
    bench.flush();
    bench.unmap(Piece::whole(Extent(0)));
    let free = bench.pool().usage().slots_free;
    let image = bench.image.unwrap();
    bench.pool().delete_image(AdminToken(1), image, IMAGE);
    // The phase becomes durable, the end does not.
    let mut ops = Vec::new();
    bench.pool().take_disk_ops(&mut ops);
    let token = ops[0].token();
    bench.pool().complete(token, Ok(dyad_pool::DiskDone::Done));
    bench.holds = Some(is_journal);
    bench.pool().submit(other, Token(1000), Request::Flush);
    bench.drive();
    assert_eq!(bench.pool().usage().slots_free, free);
    bench.let_go();
    assert_eq!(bench.administered(), AdminReply::Deleted);
    assert_eq!(bench.pool().usage().slots_free, free + 8);
}

/// Deleting goes on although flushes come without end, and after a restart in the middle.
#[test]
fn a_deletion_is_finished_by_the_next_start() {
    let mut bench = Bench::new();
    let free = bench.pool().usage().slots_free;
    for extent in 0..8 {
        bench.write(extent, 0, &[1; 4096]);
    }
    let image = bench.image.unwrap();
    bench.pool().delete_image(AdminToken(1), image, IMAGE);
    let mut ops = Vec::new();
    bench.pool().take_disk_ops(&mut ops);
    for op in ops {
        if let dyad_pool::DiskOp::WriteDurable { offset, data, .. } = op {
            dyad_pool::BlockingDisk::write_durable_at(&mut bench.disk, &data, offset).unwrap();
        }
    }
    bench.crash();
    bench.drive();
    assert_eq!(bench.pool().images().count(), 0);
    assert_eq!(bench.pool().usage().slots_free, free);
    let again = bench.create(IMAGE, Bytes::gib(1));
    bench.image = Some(again);
    assert_eq!(bench.read(0, 0, 1), [0; 4096], "nothing of the image that had its name (A5)");
}
