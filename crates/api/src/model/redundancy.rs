//! Is my data redundant? One place finds the answer, so that every screen gives the same one.

use dyad_units::Bytes;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::{Image, ImageState, VolumeState};

/// Is my data redundant, and if not, why?
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Redundancy {
    /// The answer in a word.
    pub state: RedundancyState,
    /// The answer in a sentence, without full stop.
    pub sentence: String,
    /// Images that hold every acknowledged write.
    pub in_sync: u32,
    /// Images that the volume has.
    pub images: u32,
}

/// Whether a volume's data is redundant, the worst first.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub enum RedundancyState {
    /// Hosts cannot reach the data.
    Unavailable,
    /// Served, but with fewer images in-sync than the volume has.
    Reduced,
    /// The volume has one image only, by its creator's choice.
    Single,
    /// Every image holds every acknowledged write.
    Redundant,
}

impl Redundancy {
    /// Judges a volume by its state, the `reason` why it does not serve, its images, and how many extents are
    /// still to be `compared` between them.
    pub fn judge(state: VolumeState, reason: &str, images: &[Image], compared: u64) -> Self {
        let count = |is_it: fn(&ImageState) -> bool| images.iter().filter(|image| is_it(&image.state)).count() as u32;
        let in_sync = count(|state| *state == ImageState::InSync);
        let detached = count(|state| *state == ImageState::Detached);
        let all = images.len() as u32 - detached;
        let (state, sentence) = match state {
            VolumeState::Creating => (RedundancyState::Unavailable, "not yet: the volume is being created".into()),
            VolumeState::Deleting => (RedundancyState::Unavailable, "no: the volume is being deleted".into()),
            VolumeState::Unavailable => (RedundancyState::Unavailable, unavailable(reason)),
            VolumeState::Serving if in_sync == 0 => {
                (RedundancyState::Unavailable, unavailable("no image holds every acknowledged write"))
            }
            VolumeState::Serving if all == 1 && detached > 0 => (
                RedundancyState::Reduced,
                "NO: 1 image in-sync, the others are detached; reattach one or add one".into(),
            ),
            VolumeState::Serving if all == 1 => (RedundancyState::Single, "no: it has one image".into()),
            VolumeState::Serving if in_sync == all && compared > 0 => {
                (RedundancyState::Reduced, format!("soon: {compared} extents to compare after a restart"))
            }
            VolumeState::Serving if in_sync == all => {
                (RedundancyState::Redundant, format!("yes: {in_sync} images in-sync"))
            }
            VolumeState::Serving => (RedundancyState::Reduced, reduced(in_sync, images)),
        };
        Self { state, sentence, in_sync, images: all }
    }
}

/// When an image that catches up will be there.
fn when(image: &Image) -> String {
    let Some(progress) = &image.progress else { return String::new() };
    let left = Bytes::new(progress.left_bytes);
    match (progress.stage.as_str(), progress.seconds_left) {
        ("joining", _) => ", everything is copied: any moment now".into(),
        ("copying", Some(seconds)) => {
            let rate = Bytes::new(progress.bytes_per_second);
            format!(", {left} left at {rate}/s: about {seconds} s")
        }
        _ => ", it is not known yet how much is left".into(),
    }
}

impl Redundancy {
    /// What is said is what was recorded last, for this reason.
    #[must_use]
    pub fn doubted(mut self, why: &str) -> Self {
        if self.state > RedundancyState::Reduced {
            self.state = RedundancyState::Reduced;
        }
        self.sentence = format!("not known: {why}; as recorded, {}", self.sentence);
        self
    }
}

fn unavailable(reason: &str) -> String {
    if reason.is_empty() {
        "hosts cannot reach the data".into()
    } else {
        format!("hosts cannot reach the data: {reason}")
    }
}

/// Names the first image that is missing; the others are in the volume's list of images.
fn reduced(in_sync: u32, images: &[Image]) -> String {
    let grade = if in_sync == 1 { "NO" } else { "less than it should be" };
    let wanted = images.iter().filter(|image| image.state != ImageState::Detached).count();
    let count = format!("{grade}: {in_sync} of {wanted} images in-sync");
    let is_out = |image: &&Image| matches!(image.state, ImageState::Stale | ImageState::Syncing);
    match images.iter().find(is_out) {
        Some(out) if out.progress.is_some() => {
            format!("{count}; the one in pool {} is {}{}", out.pool, out.state, when(out))
        }
        Some(out) if out.reason.is_empty() => format!("{count}; the one in pool {} is {}", out.pool, out.state),
        Some(out) => format!("{count}; the one in pool {} is {}: {}", out.pool, out.state, out.reason),
        None => count,
    }
}

#[cfg(test)]
mod tests {
    use dyad_units::{ImageId, NodeId, PoolId, VolumeId};

    use super::super::Progress;
    use super::{Image, ImageState, Redundancy, RedundancyState, VolumeState};

    fn image(pool: &str, state: ImageState, reason: &str) -> Image {
        Image {
            id: ImageId::from_bytes([1; 16]),
            volume: "v".into(),
            volume_id: VolumeId::from_bytes([2; 16]),
            node: NodeId::from_bytes([3; 16]),
            pool: pool.into(),
            pool_id: PoolId::from_bytes([4; 16]),
            state,
            reason: reason.into(),
            allocated_bytes: None,
            node_name: "one".into(),
            out_seconds: None,
            progress: None,
            replaces: None,
            export: None,
        }
    }

    #[test]
    fn what_catches_up_says_when_it_is_there_and_what_is_detached_does_not_count() {
        let serving = VolumeState::Serving;
        let judge = |images: &[Image]| Redundancy::judge(serving, "", images, 0);
        let (a, mut b) = (image("a", ImageState::InSync, ""), image("two/b", ImageState::Syncing, "it was away"));
        let progress = |stage: &str, seconds_left| Progress {
            stage: stage.into(),
            done_bytes: 0,
            left_bytes: 1 << 30,
            sent_bytes: 0,
            bytes_per_second: 64 << 20,
            seconds_left,
        };
        let said = |judged: &Redundancy| judged.sentence.split_once(" is syncing").map(|(_, said)| said.to_owned());
        b.progress = Some(progress("copying", Some(16)));
        let copying = judge(&[a.clone(), b.clone()]);
        assert_eq!(said(&copying).unwrap(), ", 1 GiB left at 64 MiB/s: about 16 s");
        b.progress = Some(progress("joining", None));
        assert_eq!(said(&judge(&[a.clone(), b.clone()])).unwrap(), ", everything is copied: any moment now");
        let apart = judge(&[a.clone(), image("b", ImageState::Detached, "")]);
        assert_eq!((apart.state, apart.images, apart.in_sync), (RedundancyState::Reduced, 1, 1));
        assert!(apart.sentence.starts_with("NO: 1 image in-sync, the others are detached"), "{}", apart.sentence);
        let doubted = judge(&[a.clone(), a]).doubted("node two does not answer");
        assert_eq!(doubted.state, RedundancyState::Reduced, "nobody knows");
        assert_eq!(doubted.sentence, "not known: node two does not answer; as recorded, yes: 2 images in-sync");
    }

    #[test]
    fn every_case_has_its_word_and_its_sentence() {
        use ImageState::{InSync, Stale};
        use RedundancyState::{Reduced, Redundant, Single, Unavailable};
        let (a, b, c) = (image("a", InSync, ""), image("b", InSync, ""), image("c", Stale, "its disk failed"));
        let serving = VolumeState::Serving;
        let cases: [(_, &str, &[Image], u64, _, &str); 10] = [
            (serving, "", &[a.clone(), b.clone()], 0, Redundant, "yes: 2 images in-sync"),
            (serving, "", &[a.clone(), b.clone()], 7, Reduced, "soon: 7 extents to compare after a restart"),
            (serving, "", std::slice::from_ref(&a), 0, Single, "no: it has one image"),
            (
                serving,
                "",
                &[a.clone(), c.clone()],
                0,
                Reduced,
                "NO: 1 of 2 images in-sync; the one in pool c is stale: its disk failed",
            ),
            (
                serving,
                "",
                &[a.clone(), b, c.clone()],
                0,
                Reduced,
                "less than it should be: 2 of 3 images in-sync; the one in pool c is stale: its disk failed",
            ),
            (serving, "", &[c], 0, Unavailable, "hosts cannot reach the data: no image holds every acknowledged write"),
            (
                VolumeState::Unavailable,
                "why",
                std::slice::from_ref(&a),
                0,
                Unavailable,
                "hosts cannot reach the data: why",
            ),
            (VolumeState::Unavailable, "", &[], 0, Unavailable, "hosts cannot reach the data"),
            (VolumeState::Creating, "", &[], 0, Unavailable, "not yet: the volume is being created"),
            (VolumeState::Deleting, "", &[], 0, Unavailable, "no: the volume is being deleted"),
        ];
        for (state, reason, images, compared, word, sentence) in cases {
            let judged = Redundancy::judge(state, reason, images, compared);
            assert_eq!((judged.state, judged.sentence.as_str()), (word, sentence));
        }
    }
}
