//! Resyncs take turns: a node that was away comes back to its volumes one after the other, not to all of them at once.

use dyad_bench::disk::Disk;
use dyad_e2e::Target as _;
use dyad_e2e::cluster::{Cluster, Shape};
use serde_json::{Value, json};

const VOLUMES: [&str; 4] = ["v1", "v2", "v3", "v4"];
const MIB: u64 = 32;

/// The images that are not in sync, of all volumes at one moment: state and reason.
fn out(shown: &Value) -> Vec<(String, String)> {
    let volumes = shown["items"].as_array().unwrap();
    let images = volumes.iter().flat_map(|volume| volume["images"].as_array().unwrap());
    let text = |image: &Value, field: &str| image[field].as_str().unwrap_or_default().to_owned();
    let images = images.map(|image| (text(image, "state"), text(image, "reason")));
    images.filter(|(state, _)| state != "in-sync").collect()
}

#[test]
fn of_a_node_that_comes_back_one_image_at_a_time_catches_up() {
    let more = "resyncs_at_once = 1\n".to_owned();
    let mut cluster = Cluster::start_without_volume(Shape { more, ..Shape::pools(512) }).unwrap();
    for name in VOLUMES {
        cluster.create_volume(&json!({ "name": name, "size_bytes": MIB << 20 })).unwrap();
    }
    cluster.nodes[1].kill().unwrap();
    for name in VOLUMES {
        let unit = cluster.nodes[0].unit(name).unwrap();
        let mut found = None;
        cluster
            .until("the node that is left serves it", || {
                found = Disk::open(&unit.options()).ok();
                found.as_mut().is_some_and(|disk| disk.write(0, vec![1; 4096]).is_ok())
            })
            .unwrap();
        let mut disk = found.unwrap();
        for mib in 0..MIB {
            disk.write(mib * 2048, vec![mib as u8 + 1; 1 << 20]).unwrap();
        }
    }
    cluster.nodes[1].start().unwrap();
    let (mut waited, mut most) = (false, 0);
    cluster
        .until("all have come back", || {
            let Ok(shown) = cluster.nodes[0].admin().get("/v1/volumes") else { return false };
            let out = out(&shown);
            let syncing = out.iter().filter(|(state, _)| state == "syncing").count();
            assert!(syncing <= 1, "{out:?}");
            most = most.max(syncing);
            waited |= out.iter().any(|(_, reason)| reason.contains("waits for its turn"));
            out.is_empty()
        })
        .unwrap();
    assert!(waited && most == 1, "nobody was seen to wait, or to catch up: the looks are too rare");
}
