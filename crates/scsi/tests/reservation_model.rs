//! Reservations against a small reference model: random commands of hosts at two nodes, changes of the owner, lost sessions,
//! resets, and writes of the state of which no answer came.
//!
//! `DYAD_RESERVATION_STEPS` and `DYAD_RESERVATION_SEED` make a campaign of it.

mod common;

use std::collections::{BTreeMap, BTreeSet};

use common::cluster::{At, Cluster, id_of, register_and_move, register_others, reserve_in, reserve_out};
use dyad_scsi::{Response, Status};

/// Without a campaign: some seconds of a build without optimisation.
const STEPS: u64 = 20_000;
const NODES: usize = 2;
const HOSTS: u8 = 3;
const KINDS: [u8; 6] = [1, 3, 5, 6, 7, 8];

/// A small generator of numbers, so that a seed is a run (splitmix64).
struct Dice(u64);

impl Dice {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ mixed >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ mixed >> 31
    }

    fn below(&mut self, end: u64) -> u64 {
        self.next() % end
    }

    fn path(&mut self) -> At {
        At { node: self.below(NODES as u64) as usize, host: self.below(u64::from(HOSTS)) as u8 }
    }

    fn one_in(&mut self, count: u64) -> bool {
        self.below(count) == 0
    }
}

/// How a command has to end.
#[derive(Clone, Debug, Eq, PartialEq)]
enum End {
    Good,
    Data(Vec<u8>),
    Conflict,
    Sense(u8, u8, u8),
}

/// Attentions, in the order in which they are reported.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
enum Told {
    Reset,
    ReservationsPreempted,
    ReservationsReleased,
    RegistrationsPreempted,
}

impl Told {
    fn end(self) -> End {
        let (asc, qualifier) = match self {
            Self::Reset => (0x29, 3),
            Self::ReservationsPreempted => (0x2a, 3),
            Self::ReservationsReleased => (0x2a, 4),
            Self::RegistrationsPreempted => (0x2a, 5),
        };
        End::Sense(6, asc, qualifier)
    }
}

/// What SPC-4 §5.13 says, as plainly as possible.
#[derive(Clone, Debug, Default)]
struct Model {
    keys: BTreeMap<At, u64>,
    /// Type and holder; none: everybody who is registered.
    held: Option<(u8, Option<At>)>,
    generation: u32,
    reserved: Option<At>,
    told: BTreeMap<At, Attentions>,
}

/// What a path has to be told.
#[derive(Clone, Debug, Default)]
struct Attentions {
    heard: BTreeSet<Told>,
    /// Its node has not read the state since.
    on_the_way: Vec<Told>,
}

/// A command of the run.
#[derive(Clone, Debug)]
enum Step {
    Register { key: u64, new: u64, ignores: bool, all_ports: bool, other: Option<u8> },
    Reserve { kind: u8, key: u64 },
    Release { kind: u8, key: u64 },
    Clear { key: u64 },
    Preempt { kind: u8, key: u64, victims: u64, aborts: bool },
    Move { key: u64, new: u64, unregisters: bool, to: At },
    Keys,
    Reservation,
    Read,
    Write,
    Reserve6,
    Release6,
}

const BAD_LIST: End = End::Sense(5, 0x26, 0);

impl Model {
    fn tell(&mut self, at: At, what: Told) {
        self.told.entry(at).or_default().on_the_way.push(what);
    }

    fn tell_registered(&mut self, but: At, what: Told) {
        let all: Vec<At> = self.keys.keys().copied().filter(|at| *at != but).collect();
        all.into_iter().for_each(|at| self.tell(at, what));
    }

    fn is_holder(&self, at: At) -> bool {
        match self.held {
            None => false,
            Some((_, Some(holder))) => holder == at,
            Some((_, None)) => self.keys.contains_key(&at),
        }
    }

    /// Table 66: whether the reservation keeps the path from reading or writing.
    fn keeps_out(&self, at: At, writes: bool) -> bool {
        if self.reserved.is_some_and(|holder| holder != at) {
            return true;
        }
        let Some((kind, _)) = self.held else { return false };
        let has_access = self.is_holder(at) || kind > 3 && self.keys.contains_key(&at);
        !has_access && (writes || [3, 6, 8].contains(&kind))
    }

    /// The node has read the newest state.
    fn hear(&mut self, node: usize) {
        for (_, told) in self.told.iter_mut().filter(|(at, _)| at.node == node) {
            for what in told.on_the_way.drain(..) {
                if what == Told::Reset {
                    told.heard.clear();
                }
                told.heard.insert(what);
            }
        }
    }

    fn next_told(&mut self, at: At) -> Option<End> {
        Some(self.told.entry(at).or_default().heard.pop_first()?.end())
    }

    fn run(&mut self, at: At, step: &Step) -> End {
        if let Some(end) = self.next_told(at) {
            return end;
        }
        self.hear(at.node);
        let end = match self.next_told(at) {
            Some(end) => end,
            None => self.carry_out(at, step),
        };
        self.hear(at.node);
        end
    }

    fn carry_out(&mut self, at: At, step: &Step) -> End {
        match step {
            Step::Read | Step::Write if self.keeps_out(at, matches!(step, Step::Write)) => End::Conflict,
            Step::Read => End::Data(vec![0; 512]),
            Step::Write => End::Good,
            Step::Reserve6 | Step::Release6 => self.old(at, matches!(step, Step::Reserve6)),
            _ if self.reserved.is_some() => End::Conflict,
            Step::Keys => End::Data(self.read_keys()),
            Step::Reservation => End::Data(self.read_reservation()),
            _ => self.persistent(at, step),
        }
    }

    fn old(&mut self, at: At, reserves: bool) -> End {
        if !self.keys.is_empty() {
            let admits = self.held.is_some_and(|(kind, _)| kind > 3) && self.keys.contains_key(&at);
            return if self.is_holder(at) || admits { End::Good } else { End::Conflict };
        }
        match (reserves, self.reserved) {
            (true, Some(holder)) if holder != at => return End::Conflict,
            (true, _) => self.reserved = Some(at),
            (false, Some(holder)) if holder == at => self.reserved = None,
            (false, _) => {}
        }
        End::Good
    }

    fn persistent(&mut self, at: At, step: &Step) -> End {
        let own = self.keys.get(&at).copied();
        let key = match step {
            Step::Register { .. } => return self.register(at, step),
            Step::Reserve { key, .. }
            | Step::Release { key, .. }
            | Step::Clear { key }
            | Step::Preempt { key, .. }
            | Step::Move { key, .. } => *key,
            _ => unreachable!("handled before"),
        };
        if own != Some(key) {
            return End::Conflict;
        }
        match *step {
            Step::Reserve { kind, .. } => match self.held {
                None => self.held = Some((kind, (kind < 7).then_some(at))),
                Some((held, _)) if held == kind && self.is_holder(at) => {}
                Some(_) => return End::Conflict,
            },
            Step::Release { kind, .. } if self.is_holder(at) => {
                if self.held.is_some_and(|(held, _)| held != kind) {
                    return End::Sense(5, 0x26, 4);
                }
                self.end_reservation(at);
            }
            Step::Clear { .. } => {
                self.tell_registered(at, Told::ReservationsPreempted);
                self.keys.clear();
                self.held = None;
                self.generation += 1;
            }
            Step::Preempt { kind, victims, .. } => return self.preempt(at, kind, victims),
            Step::Move { new, unregisters, to, .. } => return self.move_to(at, new, unregisters, to),
            _ => {}
        }
        End::Good
    }

    fn end_reservation(&mut self, by: At) {
        if self.held.take().is_some_and(|(kind, _)| kind > 3) {
            self.tell_registered(by, Told::ReservationsReleased);
        }
    }

    fn register(&mut self, at: At, step: &Step) -> End {
        let Step::Register { key, new, ignores, all_ports, other } = *step else { unreachable!() };
        let own = self.keys.get(&at).copied();
        if !ignores && key != own.unwrap_or(0) {
            return End::Conflict;
        }
        if other.is_some() && own.is_some() {
            return BAD_LIST;
        }
        let nodes: Vec<usize> = if all_ports { (0..NODES).collect() } else { vec![at.node] };
        let mut paths = vec![at];
        for host in std::iter::once(at.host).chain(other) {
            paths.extend(nodes.iter().map(|&node| At { node, host }));
        }
        if !ignores && paths.iter().any(|path| self.keys.get(path).is_some_and(|known| *known != key)) {
            return End::Conflict;
        }
        let mut is_changed = false;
        for path in paths {
            if new != 0 {
                self.keys.insert(path, new);
                is_changed = true;
            } else if self.keys.contains_key(&path) {
                self.unregister(path);
                is_changed = true;
            }
        }
        self.generation += u32::from(is_changed);
        End::Good
    }

    fn unregister(&mut self, path: At) {
        let was_holder = self.is_holder(path);
        self.keys.remove(&path);
        let goes_on = self.held.is_some_and(|(_, holder)| holder.is_none()) && !self.keys.is_empty();
        if was_holder && !goes_on {
            self.end_reservation(path);
        }
    }

    fn preempt(&mut self, at: At, kind: u8, victims: u64) -> End {
        let takes_over = match self.held {
            None => false,
            Some((_, None)) => victims == 0,
            Some((_, Some(holder))) => victims != 0 && self.keys[&holder] == victims,
        };
        if victims == 0 && !takes_over {
            return BAD_LIST;
        }
        let is_victim = |path: At, key: u64| (victims == 0 || key == victims) && !(takes_over && path == at);
        let gone: Vec<At> =
            self.keys.iter().filter(|(path, key)| is_victim(**path, **key)).map(|(path, _)| *path).collect();
        if gone.is_empty() && !takes_over {
            return End::Conflict;
        }
        for path in gone {
            self.keys.remove(&path);
            if path != at {
                self.tell(path, Told::RegistrationsPreempted);
            }
        }
        if takes_over {
            if self.held.is_some_and(|(before, _)| before != kind) {
                self.tell_registered(at, Told::ReservationsReleased);
            }
            self.held = Some((kind, (kind < 7).then_some(at)));
        } else if self.keys.is_empty() {
            self.held = None;
        }
        self.generation += 1;
        End::Good
    }

    fn move_to(&mut self, at: At, new: u64, unregisters: bool, to: At) -> End {
        let Some((kind, Some(holder))) = self.held else { return End::Conflict };
        if holder != at {
            return End::Conflict;
        }
        if new == 0 || to == at {
            return BAD_LIST;
        }
        self.keys.insert(to, new);
        self.held = Some((kind, Some(to)));
        if unregisters {
            self.keys.remove(&at);
        }
        self.generation += 1;
        End::Good
    }

    /// With the keys sorted: the order in which they came is not the model's matter.
    fn read_keys(&self) -> Vec<u8> {
        let mut keys: Vec<u64> = self.keys.values().copied().collect();
        keys.sort_unstable();
        let len = 8 * keys.len() as u32;
        [&self.generation.to_be_bytes()[..], &len.to_be_bytes()]
            .concat()
            .into_iter()
            .chain(keys.into_iter().flat_map(u64::to_be_bytes))
            .collect()
    }

    fn read_reservation(&self) -> Vec<u8> {
        let mut data = self.generation.to_be_bytes().to_vec();
        let Some((kind, holder)) = self.held else { return [data, vec![0; 4]].concat() };
        data.extend([0, 0, 0, 16]);
        data.extend(holder.map_or(0, |holder| self.keys[&holder]).to_be_bytes());
        data.extend([0, 0, 0, 0, 0, kind, 0, 0]);
        data
    }
}

fn draw(dice: &mut Dice, model: &Model, at: At) -> Step {
    // Mostly the right key: wrong ones end early.
    let own = model.keys.get(&at).copied().unwrap_or(0);
    let key = if dice.one_in(8) { dice.below(4) } else { own };
    let kind = KINDS[dice.below(6) as usize];
    let held = model.held.map_or(kind, |(held, _)| if dice.one_in(6) { kind } else { held });
    match dice.below(24) {
        0..=4 => {
            let other = (own == 0 && dice.one_in(4)).then(|| dice.below(u64::from(HOSTS)) as u8);
            let key = if other.is_some() { 0 } else { key };
            let ignores = other.is_none() && dice.one_in(4);
            let new = if dice.one_in(3) { 0 } else { 1 + dice.below(3) };
            Step::Register { key, new, ignores, all_ports: dice.one_in(5), other }
        }
        5..=6 => Step::Reserve { kind, key },
        7 => Step::Release { kind: held, key },
        8 if dice.one_in(3) => Step::Clear { key },
        9..=10 => Step::Preempt { kind, key, victims: dice.below(4), aborts: dice.one_in(2) },
        11 => Step::Move { key, new: dice.below(4), unregisters: dice.one_in(2), to: dice.path() },
        12 => Step::Keys,
        13 => Step::Reservation,
        14..=17 => Step::Read,
        18 => Step::Reserve6,
        19 => Step::Release6,
        _ => Step::Write,
    }
}

fn command(step: &Step) -> (Vec<u8>, Vec<u8>) {
    let ports = |all_ports| if all_ports { 4 } else { 0 };
    let (cdb, list) = match *step {
        Step::Register { new, all_ports, other: Some(host), .. } => {
            register_others(new, ports(all_ports), &[id_of(host)])
        }
        Step::Register { key, new, ignores, all_ports, other: None } => {
            reserve_out(if ignores { 6 } else { 0 }, 0, key, new, ports(all_ports))
        }
        Step::Reserve { kind, key } => reserve_out(1, kind, key, 0, 0),
        Step::Release { kind, key } => reserve_out(2, kind, key, 0, 0),
        Step::Clear { key } => reserve_out(3, 0, key, 0, 0),
        Step::Preempt { kind, key, victims, aborts } => reserve_out(if aborts { 5 } else { 4 }, kind, key, victims, 0),
        Step::Move { key, new, unregisters, to } => register_and_move(key, new, if unregisters { 2 } else { 0 }, to),
        Step::Keys => (reserve_in(0), vec![]),
        Step::Reservation => (reserve_in(1), vec![]),
        Step::Read => ([0x28, 0, 0, 0, 0, 0, 0, 0, 1, 0], vec![]),
        Step::Write => ([0x2a, 0, 0, 0, 0, 0, 0, 0, 1, 0], vec![1; 512]),
        Step::Reserve6 => ([0x16, 0, 0, 0, 0, 0, 0, 0, 0, 0], vec![]),
        Step::Release6 => ([0x17, 0, 0, 0, 0, 0, 0, 0, 0, 0], vec![]),
    };
    (cdb.to_vec(), list)
}

fn end_of(step: &Step, response: &Response) -> End {
    match response.status {
        Status::Good if response.data_in.is_empty() => End::Good,
        Status::Good => {
            let mut data = response.data_in.to_vec();
            if matches!(step, Step::Keys) {
                let mut keys: Vec<[u8; 8]> = data[8..].as_chunks().0.to_vec();
                keys.sort_unstable();
                data.truncate(8);
                data.extend(keys.concat());
            }
            End::Data(data)
        }
        Status::ReservationConflict => End::Conflict,
        Status::CheckCondition => {
            let sense = response.sense_bytes();
            End::Sense(sense[2], sense[12], sense[13])
        }
        status => panic!("{status:?} for {step:?}"),
    }
}

/// What happens besides commands, now and then.
fn disturb(dice: &mut Dice, cluster: &mut Cluster, model: &mut Model, at: At) {
    match dice.below(40) {
        0 => cluster.next_epoch(),
        1 => {
            // A new session is told of nothing that was before it; so the node hears of it before.
            cluster.bring_state(at.node);
            cluster.lose(at);
            cluster.login(at, None);
            model.hear(at.node);
            model.told.remove(&at);
            model.reserved.take_if(|holder| *holder == at);
        }
        2 if dice.one_in(4) => {
            cluster.reset(at.node);
            model.reserved = None;
            for path in (0..NODES).flat_map(|node| (0..HOSTS).map(move |host| At { node, host })) {
                let told = model.told.entry(path).or_default();
                if path.node == at.node {
                    // What was on its way comes after the reset there.
                    told.heard = BTreeSet::from([Told::Reset]);
                } else {
                    told.on_the_way.push(Told::Reset);
                }
            }
            model.hear(at.node);
        }
        3 => cluster.doubts = vec![dice.one_in(2)],
        _ => {}
    }
}

fn number(name: &str, default: u64) -> u64 {
    std::env::var(name).ok().map_or(default, |text| text.parse().expect("a number"))
}

#[test]
fn reservations_behave_as_the_model_says() {
    let (steps, seed) = (number("DYAD_RESERVATION_STEPS", STEPS), number("DYAD_RESERVATION_SEED", 1));
    let mut dice = Dice(seed);
    let mut cluster = Cluster::new(NODES, HOSTS);
    (0..NODES).for_each(|node| cluster.bring_state(node));
    let mut model = Model::default();
    let mut seen: BTreeMap<String, u64> = BTreeMap::new();
    for count in 0..steps {
        let at = dice.path();
        disturb(&mut dice, &mut cluster, &mut model, at);
        let step = draw(&mut dice, &model, at);
        let before = model.clone();
        let expected = model.run(at, &step);
        let (cdb, list) = command(&step);
        let response = cluster.run(at, &cdb, &list);
        let is = end_of(&step, &response);
        assert_eq!(is, expected, "seed {seed}, step {count}: {step:?} of {at:?} with {before:?}");
        cluster.doubts.clear();
        cluster.nodes.iter_mut().for_each(|node| drop(node.unit.take_drain()));
        let end = match is {
            End::Good | End::Data(_) => "good".to_owned(),
            End::Conflict => "conflict".to_owned(),
            End::Sense(key, asc, qualifier) => format!("{key:x}/{asc:02x}/{qualifier:02x}"),
        };
        let name = format!("{step:?}");
        *seen.entry(format!("{} {end}", name.split([' ', '{']).next().unwrap_or_default())).or_default() += 1;
    }
    println!("{steps} steps, seed {seed}: {seen:#?}");
    // A run that never comes to what is interesting proves nothing.
    for wanted in ["Preempt good", "Move good", "Release good", "Write conflict", "Read 6/2a/05", "Reserve6 good"] {
        assert!(seen.contains_key(wanted), "{wanted} never happened: {seen:?}");
    }
}
