//! Creating and deleting a volume, one durable step after the other.
//!
//! Order of creating: volume record `creating` → a record per segment → the images in their pools → `ready`.
//! Order of deleting: volume record `deleting` → the images → the segments' records → the volume's record.
//! Every image is named by a record for as long as it exists, so whoever starts after a crash finds it:
//! [`next_step`] looks at what is there and says what comes next. A volume whose segments' records are all
//! there is finished; one that lacks some is undone, for nobody knows where its images should have been.

use dyad_units::{ImageId, NodeId, PoolId, SegmentId};

use crate::segment::SegmentRecord;
use crate::volume::{VolumeRecord, VolumeState};

/// What is known about an image that a record names.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Presence {
    /// Its pool has it.
    There,
    /// Its pool is open and does not have it.
    NotThere,
    /// Its pool cannot be asked now.
    Unknown,
}

/// What to do next for one image or record.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct StepOrder {
    /// Which segment.
    pub segment: SegmentId,
    /// Which of its images.
    pub image: ImageId,
    /// On which node.
    pub node: NodeId,
    /// In which pool.
    pub pool: PoolId,
}

/// The next step of a volume on its way. Each is durable before the next is asked for.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Step {
    /// Create this image in its pool.
    CreateImage(StepOrder),
    /// Remove this image from its pool.
    DeleteImage(StepOrder),
    /// Remove the record of this segment.
    DeleteSegment(SegmentId),
    /// Give the volume's record this state.
    SetState(VolumeState),
    /// Remove the volume's record; nothing of it is left then.
    DeleteVolume,
    /// The pool of this image cannot be asked now; try again when it can. The volume stays in its state.
    Wait(StepOrder),
    /// Nothing is left to do.
    Finished,
}

/// The next step for `volume`, given those of its segments' records that exist, and what is known about
/// their images.
pub fn next_step(volume: &VolumeRecord, segments: &[SegmentRecord], presence: impl Fn(&StepOrder) -> Presence) -> Step {
    let found = |id: &SegmentId| segments.iter().find(|segment| segment.id == *id);
    let orders = || volume.segments.iter().filter_map(found).flat_map(orders);
    match volume.state {
        VolumeState::Ready => Step::Finished,
        VolumeState::Creating if !volume.segments.iter().all(|id| found(id).is_some()) => {
            Step::SetState(VolumeState::Deleting)
        }
        VolumeState::Creating => {
            let missing = orders().find(|order| presence(order) != Presence::There);
            missing.map_or(Step::SetState(VolumeState::Ready), |order| match presence(&order) {
                Presence::Unknown => Step::Wait(order),
                Presence::NotThere | Presence::There => Step::CreateImage(order),
            })
        }
        VolumeState::Deleting => {
            // All that can go goes first; a pool that is away holds up only its own image and the records.
            if let Some(order) = orders().find(|order| presence(order) == Presence::There) {
                return Step::DeleteImage(order);
            }
            if let Some(order) = orders().find(|order| presence(order) == Presence::Unknown) {
                return Step::Wait(order);
            }
            volume.segments.iter().filter_map(found).next().map_or(Step::DeleteVolume, |s| Step::DeleteSegment(s.id))
        }
    }
}

fn orders(segment: &SegmentRecord) -> impl Iterator<Item = StepOrder> + '_ {
    let order = |image: &crate::ImageRecord| StepOrder {
        segment: segment.id,
        image: image.id,
        node: image.node,
        pool: image.pool,
    };
    segment.images.iter().map(order)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::{Presence, Step, next_step};
    use crate::segment::SegmentRecord;
    use crate::testing::{SEGMENT, image, segment, volume};
    use crate::volume::{VolumeRecord, VolumeState};

    /// Everything that creating and deleting touches.
    #[derive(Clone)]
    struct World {
        volume: Option<VolumeRecord>,
        segments: Vec<SegmentRecord>,
        images: BTreeSet<dyad_units::ImageId>,
    }

    impl World {
        fn step(&mut self) -> Step {
            let Some(volume) = &self.volume else { return Step::Finished };
            let presence = |order: &super::StepOrder| match self.images.contains(&order.image) {
                true => Presence::There,
                false => Presence::NotThere,
            };
            let step = next_step(volume, &self.segments, presence);
            match step {
                Step::CreateImage(order) => {
                    self.images.insert(order.image);
                }
                Step::DeleteImage(order) => {
                    self.images.remove(&order.image);
                }
                Step::DeleteSegment(id) => self.segments.retain(|segment| segment.id != id),
                Step::SetState(state) => self.volume.as_mut().expect("it is there").state = state,
                Step::DeleteVolume => self.volume = None,
                Step::Wait(_) | Step::Finished => {}
            }
            step
        }

        fn run(&mut self) {
            for _ in 0..100 {
                if self.step() == Step::Finished {
                    return;
                }
            }
            panic!("it never ends");
        }

        fn is_gone(&self) -> bool {
            self.volume.is_none() && self.segments.is_empty() && self.images.is_empty()
        }
    }

    fn world(state: VolumeState, segments: bool, images: &[u8]) -> World {
        World {
            volume: Some(volume(state)),
            segments: segments.then(|| segment(2)).into_iter().collect(),
            images: images.iter().map(|&at| image(at)).collect(),
        }
    }

    #[test]
    fn a_volume_whose_plan_is_recorded_is_finished_wherever_it_stopped() {
        for images in [&[][..], &[0], &[1], &[0, 1]] {
            let mut world = world(VolumeState::Creating, true, images);
            world.run();
            assert_eq!(world.volume.as_ref().map(|volume| volume.state), Some(VolumeState::Ready));
            assert_eq!(world.images.len(), 2);
        }
    }

    #[test]
    fn a_volume_without_its_plan_is_undone() {
        let mut world = world(VolumeState::Creating, false, &[]);
        world.run();
        assert!(world.is_gone());
    }

    /// A crash between any two steps: the next start goes on, and every image is named by a record until it
    /// is gone.
    #[test]
    fn deleting_goes_on_after_every_step_and_never_orphans_an_image() {
        let mut world = world(VolumeState::Deleting, true, &[0, 1]);
        let mut steps = Vec::new();
        while !world.is_gone() {
            steps.push(world.step());
            assert!(world.images.is_empty() || !world.segments.is_empty());
            assert!(world.segments.is_empty() || world.volume.is_some());
            let mut again = world.clone();
            again.run();
            assert!(again.is_gone());
        }
        assert_eq!(steps.len(), 4);
        assert_eq!(steps[2], Step::DeleteSegment(SEGMENT));
    }

    #[test]
    fn a_pool_that_is_away_holds_up_only_what_is_in_it() {
        let presence = |order: &super::StepOrder| match order.image == image(0) {
            true => Presence::Unknown,
            false => Presence::There,
        };
        let deleting = next_step(&volume(VolumeState::Deleting), &[segment(2)], presence);
        assert!(matches!(deleting, Step::DeleteImage(order) if order.image == image(1)));
        let only_that = |order: &super::StepOrder| match order.image == image(0) {
            true => Presence::Unknown,
            false => Presence::NotThere,
        };
        let waits = next_step(&volume(VolumeState::Deleting), &[segment(2)], only_that);
        assert!(matches!(waits, Step::Wait(order) if order.image == image(0)));
        let creating = next_step(&volume(VolumeState::Creating), &[segment(2)], only_that);
        assert!(matches!(creating, Step::Wait(_)), "{creating:?}");
    }

    #[test]
    fn a_ready_volume_is_left_alone() {
        assert_eq!(next_step(&volume(VolumeState::Ready), &[], |_| Presence::Unknown), Step::Finished);
    }
}
