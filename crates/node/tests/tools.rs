//! A node to try tools of others on, by hand:
//! `DYAD_PORT=13260 DYAD_SECONDS=60 cargo test -p dyad-node --test tools -- --ignored`.

mod cast;

use std::time::Duration;

use cast::Stage;
use dyad_units::Bytes;

#[test]
#[ignore = "runs for as long as the environment says"]
fn a_node_serves_for_a_while() {
    let number = |name: &str, usual: u64| std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(usual);
    let port = number("DYAD_PORT", 13260) as u16;
    let stage = Stage::with(|settings| settings.iscsi.portals = vec![([127, 0, 0, 1], port).into()]);
    for pool in ["a", "b"] {
        let size = Some(Bytes::mib(number("DYAD_POOL_MIB", 2048)));
        stage.handle().create_pool(dyad_node::control::CreatePool { size, ..stage.pool(pool) }).unwrap();
    }
    let size = Bytes::mib(number("DYAD_VOLUME_MIB", 1024));
    for (name, pools) in [("one", &["a"][..]), ("two", &["a", "b"])] {
        stage.handle().create_volume(dyad_node::control::CreateVolume { size, ..stage.volume(name, pools) }).unwrap();
        println!("iscsi://{}/{}/0", stage.portal(), stage.handle().volume(name).unwrap().target);
    }
    std::thread::sleep(Duration::from_secs(number("DYAD_SECONDS", 60)));
    println!("{:#?}", stage.handle().status().unwrap());
}
