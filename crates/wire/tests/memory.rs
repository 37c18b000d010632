//! Frames of reads and writes are made and taken without allocating. One test function only: the counter belongs to the
//! whole process.

mod common;

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::io::{IoSlice, IoSliceMut};

use common::{announced, data, write};
use dyad_contract::image::{Reply, Request, Token, Written};
use dyad_mirror::PeerMessage;
use dyad_payload::Slab;
use dyad_units::{Extent, ImageId, Piece};
use dyad_wire::{Polled, Receiver, Sender};

struct Counting;

thread_local! {
    static ALLOCATIONS: Cell<usize> = const { Cell::new(0) };
}

// SAFETY: hands everything to the system's allocator, unchanged.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.set(ALLOCATIONS.get() + 1);
        // SAFETY: as the caller promised.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, ptr: *mut u8, layout: Layout) {
        // SAFETY: as the caller promised.
        unsafe { System.dealloc(ptr, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// Carries what is queued over, as a socket would; says how many messages came out, after how many reads.
fn carry(sender: &mut Sender, receiver: &mut Receiver, pipe: &mut Vec<u8>) -> (usize, usize) {
    pipe.clear();
    while !sender.is_empty() {
        let mut slices = [IoSlice::new(&[]); 16];
        let count = sender.gather(&mut slices);
        let before = pipe.len();
        slices[..count].iter().for_each(|slice| pipe.extend_from_slice(slice));
        sender.transmitted(pipe.len() - before);
    }
    let (mut at, mut messages, mut reads) = (0, 0, 0);
    loop {
        match receiver.poll().unwrap() {
            Polled::Incoming(_) => messages += 1,
            Polled::NeedsBytes if at == pipe.len() => return (messages, reads),
            Polled::NeedsBytes => {
                reads += 1;
                let mut room = [IoSliceMut::new(&mut []), IoSliceMut::new(&mut [])];
                let count = receiver.room(&mut room);
                let before = at;
                for slice in &mut room[..count] {
                    let len = slice.len().min(pipe.len() - at);
                    slice[..len].copy_from_slice(&pipe[at..at + len]);
                    at += len;
                }
                receiver.received(at - before);
            }
            Polled::NeedsMemory => panic!("no memory"),
        }
    }
}

#[test]
fn reads_writes_and_their_answers_allocate_nothing() {
    let slab = Slab::new(64 << 20);
    let (mut sender, mut receiver, number) = announced(&slab);
    let (image, link, token) = (ImageId::from_bytes([1; 16]), 1, Token(9));
    let ask = |request| PeerMessage::Ask { image, link, token, request };
    let told = |reply| PeerMessage::Told { image, link, token, reply };
    let mut pipe = Vec::with_capacity(4 << 20);
    for message in [
        ask(Request::Write(write(&slab, 1))),
        ask(Request::Write(write(&slab, 64))),
        ask(Request::Read { piece: Piece::whole(Extent(3)) }),
        told(Reply::Written(Written { used_slot: false })),
        told(Reply::Data(data(&slab, 4096))),
        told(Reply::Data(data(&slab, 65536))),
        told(Reply::Done),
    ] {
        for depth in [1, 8] {
            let mut before = 0;
            for round in 0..20 {
                if round == 4 {
                    before = ALLOCATIONS.get();
                }
                (0..depth).for_each(|_| sender.send(number, &message).unwrap());
                let (messages, reads) = carry(&mut sender, &mut receiver, &mut pipe);
                assert_eq!(messages, depth);
                let is_block =
                    matches!(&message, PeerMessage::Ask { request: Request::Write(w), .. } if w.piece.count() == 1);
                assert!(round < 4 || !is_block || reads <= depth, "one read for a write of one block: {reads}");
            }
            assert_eq!(ALLOCATIONS.get() - before, 0, "{depth} of {message:?}");
        }
    }
}
