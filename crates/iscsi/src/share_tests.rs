//! Shares in virtual time: limits are kept and used up, sessions get the same, order holds.

use std::num::{NonZeroU32, NonZeroU64};

use dyad_units::{Moment, Period};
use proptest::prelude::*;

use super::{Cost, QUANTUM_BYTES, Rates, SAVED_MIN, Share, Verdict};
use crate::event::TaskAttribute;

const SECOND: u64 = 1_000_000_000;

fn rates(commands: u32, bytes: u64, burst: Period) -> Rates {
    Rates { commands: NonZeroU32::new(commands), bytes: NonZeroU64::new(bytes), burst }
}

/// A command that went on: when, of which session, how many bytes.
type Gone = (u64, u8, u32);

/// Sessions that always have a queue of so many commands of one size each, for some seconds.
fn saturate(rates: Rates, sessions: &[(usize, u32)], secs: u64) -> Vec<Gone> {
    let (mut share, mut now, mut serial) = (Share::new(rates), Moment::from_nanos(100 * SECOND), 0);
    let (end, mut gone) = (now + Period::from_secs(secs), Vec::new());
    let mut submit = |share: &mut Share<u8, u32>, now: Moment, who: usize, gone: &mut Vec<Gone>| loop {
        serial += 1;
        match share.admit(now, who as u8, serial, Cost::Bytes(sessions[who].1), TaskAttribute::Simple) {
            Verdict::Go => gone.push((now.as_nanos(), who as u8, sessions[who].1)),
            Verdict::Wait => return,
            Verdict::Full => panic!("a queue of ordinary depth is too long"),
        }
    };
    for (who, (depth, _)) in sessions.iter().enumerate() {
        (0..*depth).for_each(|_| submit(&mut share, now, who, &mut gone));
    }
    while now < end {
        while let Some((who, _)) = share.next(now) {
            gone.push((now.as_nanos(), who, sessions[usize::from(who)].1));
            submit(&mut share, now, usize::from(who), &mut gone);
        }
        let next = share.next_deadline().expect("somebody waits always");
        assert!(next > now, "nobody may go on, and nobody says when");
        now = next;
    }
    gone
}

fn bytes_of(gone: &[Gone], who: u8) -> u64 {
    gone.iter().filter(|gone| gone.1 == who).map(|gone| u64::from(gone.2)).sum()
}

#[test]
fn a_limit_is_kept_and_used_up() {
    let gone = saturate(rates(1000, 0, Period::ZERO), &[(32, 4096)], 10);
    assert!((10_000..=10_012).contains(&gone.len()), "{}", gone.len());
    let gone = saturate(rates(0, 10 << 20, Period::ZERO), &[(8, 1 << 20), (32, 4096)], 10);
    let sum = bytes_of(&gone, 0) + bytes_of(&gone, 1);
    assert!((100 << 20..=102 << 20).contains(&sum), "{sum}");
}

#[test]
fn what_was_saved_up_goes_at_once_and_no_more() {
    let gone = saturate(rates(100, 0, Period::from_secs(5)), &[(4, 512)], 1);
    let at_once = gone.iter().filter(|(at, ..)| *at == 100 * SECOND).count();
    assert_eq!(at_once, 501, "five seconds of it, and one");
    assert!((600..=602).contains(&gone.len()), "{}", gone.len());
}

/// Bytes are what is shared where they are what is short, commands where they are.
#[test]
fn sessions_get_the_same_whatever_they_ask_for() {
    let gone = saturate(rates(0, 100 << 20, Period::ZERO), &[(4, 1 << 20), (128, 4096), (1, 65536)], 5);
    let sums: Vec<u64> = (0..3).map(|who| bytes_of(&gone, who)).collect();
    let (low, high) = (sums.iter().min().unwrap(), sums.iter().max().unwrap());
    assert!(high - low <= (1 << 20) + u64::from(QUANTUM_BYTES) + (1 << 20), "{sums:?}");
    let gone = saturate(rates(1000, 0, Period::ZERO), &[(1, 1 << 20), (128, 512)], 5);
    let count = |who| gone.iter().filter(|gone| gone.1 == who).count();
    assert!(count(0).abs_diff(count(1)) <= 20, "{} and {}", count(0), count(1));
}

#[test]
fn order_holds_as_its_attributes_say() {
    let mut share = Share::new(rates(10, 0, Period::ZERO));
    let mut now = Moment::from_nanos(SECOND);
    let mut admit = |task, cost, attribute| share.admit(now, 'a', task, cost, attribute);
    assert_eq!(admit(0, Cost::Bytes(1), TaskAttribute::Simple), Verdict::Go);
    assert_eq!(admit(1, Cost::Bytes(1), TaskAttribute::Simple), Verdict::Wait);
    assert_eq!(admit(2, Cost::Free, TaskAttribute::Simple), Verdict::Go, "it passes a line");
    assert_eq!(admit(3, Cost::Free, TaskAttribute::Ordered), Verdict::Wait, "ORDERED passes nothing");
    assert_eq!(admit(4, Cost::Free, TaskAttribute::Simple), Verdict::Wait, "and nothing passes it");
    assert_eq!(admit(5, Cost::Bytes(1), TaskAttribute::HeadOfQueue), Verdict::Wait);
    assert_eq!(share.admit(now, 'b', 6, Cost::Free, TaskAttribute::Simple), Verdict::Go, "another session");
    let mut order = Vec::new();
    while let Some(next) = share.next_deadline() {
        now = next;
        while let Some((_, task)) = share.next(now) {
            order.push(task);
        }
    }
    assert_eq!(order, [5, 1, 3, 4]);
    assert!(share.is_empty());
}

#[test]
fn a_line_that_hosts_would_not_wait_for_is_not_made_longer() {
    let mut share = Share::new(rates(10, 0, Period::ZERO));
    let mut admit = |who, task| share.admit(Moment::START, who, task, Cost::Bytes(1), TaskAttribute::Simple);
    let verdicts: Vec<_> = (0..200).map(|task| admit('a', task)).collect();
    assert_eq!(verdicts.iter().filter(|verdict| **verdict == Verdict::Wait).count(), 101, "ten seconds of it");
    assert_eq!(admit('b', 0), Verdict::Wait, "a session with nothing in line always gets its place");
    assert!(share.forget('a', 7) || share.forget('a', 8));
    assert!(!share.forget('a', 1000));
    share.forget_session('a');
    assert_eq!(share.len(), 1);
    share.set_rates(Rates::default());
    assert_eq!(share.next(Moment::START), Some(('b', 0)), "a limit that is lifted lets everybody go on");
}

proptest! {
    /// In every span of time no more goes on than the limits and the burst allow, and one command; nothing is lost, each
    /// session's commands stay in order, and whoever waits is told when to ask again.
    #[test]
    fn no_span_of_time_has_more_than_its_share(
        commands in prop_oneof![Just(0_u32), 10_u32..20_000],
        bytes in prop_oneof![Just(0_u64), (1_u64 << 20)..(1 << 32)],
        burst in 0_u64..3,
        steps in prop::collection::vec((0_u64..20_000_000, 0_u8..4, 1_u32..(2 << 20), 0_u8..8), 1..200),
    ) {
        let rates = rates(commands, bytes, Period::from_secs(burst));
        let saved = rates.burst.max(SAVED_MIN).as_nanos();
        let (mut share, mut now) = (Share::new(rates), Moment::from_nanos(1000 * SECOND));
        let (mut gone, mut waits, mut sizes): (Vec<Gone>, Vec<Vec<usize>>, Vec<u32>) = (vec![], vec![vec![]; 4], vec![]);
        let take = |share: &mut Share<u8, usize>, now: Moment, waits: &mut [Vec<usize>], sizes: &[u32], gone: &mut Vec<Gone>| {
            while let Some((who, task)) = share.next(now) {
                prop_assert_eq!(waits[usize::from(who)].remove(0), task);
                gone.push((now.as_nanos(), who, sizes[task]));
            }
            if let Some(next) = share.next_deadline() {
                prop_assert!(next > now);
            }
            Ok(())
        };
        for (task, &(pause, who, size, act)) in steps.iter().enumerate() {
            now = now + Period::from_nanos(pause);
            take(&mut share, now, &mut waits, &sizes, &mut gone)?;
            sizes.push(size);
            match share.admit(now, who, task, Cost::Bytes(size), TaskAttribute::Simple) {
                Verdict::Go => gone.push((now.as_nanos(), who, size)),
                Verdict::Wait => waits[usize::from(who)].push(task),
                Verdict::Full => prop_assert!(!waits[usize::from(who)].is_empty()),
            }
            if act == 0 && let Some(given_up) = waits[usize::from(who)].pop() {
                prop_assert!(share.forget(who, given_up));
            }
        }
        while let Some(next) = share.next_deadline() {
            now = next.max(now);
            take(&mut share, now, &mut waits, &sizes, &mut gone)?;
        }
        prop_assert!(waits.iter().all(Vec::is_empty) && share.is_empty());
        for from in 0..gone.len() {
            let (mut count, mut sum) = (0_u128, 0_u128);
            // The last one is the command that may exceed.
            for to in from..gone.len() {
                let span = u128::from(gone[to].0 - gone[from].0 + saved) + 2;
                let allowed = |rate: u64| u128::from(rate) * span / u128::from(SECOND) + 1;
                prop_assert!(commands == 0 || count <= allowed(u64::from(commands)), "{} commands", count);
                prop_assert!(bytes == 0 || sum <= allowed(bytes), "{} bytes", sum);
                (count, sum) = (count + 1, sum + u128::from(gone[to].2));
            }
        }
    }
}
