//! Leases (M5): an answer that reveals what the segment holds goes out only while every other in-sync image's node
//! has promised not to answer as owner.

use dyad_units::Moment;

/// What is known of an image's lease at the mirror's epoch.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum Lease {
    /// The image is on the owner's own node, which promises nothing to itself.
    #[default]
    NotNeeded,
    /// Its node granted none at this epoch yet.
    Missing,
    /// Granted until then, by this node's clock.
    Until(Moment),
}
