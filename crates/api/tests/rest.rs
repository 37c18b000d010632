//! What a client sees, through real sockets.

mod fake;

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::sync::Arc;

use dyad_api::{Desk, Guard, Listener, Server};
use fake::FakeNode;
use serde_json::{Value, json};

/// A server of a fake node on a Unix socket, on a runtime of its own.
struct Stage {
    runtime: tokio::runtime::Runtime,
    socket: PathBuf,
    _dir: tempfile::TempDir,
}

/// What came back.
struct Answer {
    status: u16,
    head: String,
    body: Value,
}

impl Stage {
    fn with(node: FakeNode, guard: Guard) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let socket = dir.path().join("api.sock");
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let listener = runtime.block_on(async { tokio::net::UnixListener::bind(&socket).unwrap() });
        let server = Server::new(Listener::Unix(listener), guard, Desk::new(Arc::new(node)));
        runtime.spawn(server.run(std::future::pending()));
        Self { runtime, socket, _dir: dir }
    }

    fn busy() -> Self {
        Self::with(FakeNode::busy(), Guard::FileMode)
    }

    fn send(&self, request: &str) -> Answer {
        let mut stream = UnixStream::connect(&self.socket).unwrap();
        // A server that refuses a request may close before it has read all of it; its answer is still there.
        let _ = stream.write_all(request.as_bytes());
        let mut bytes = Vec::new();
        let _ = stream.read_to_end(&mut bytes);
        let text = String::from_utf8(bytes).unwrap();
        let (head, body) = text.split_once("\r\n\r\n").unwrap_or((&text, ""));
        Answer {
            status: head.split(' ').nth(1).and_then(|code| code.parse().ok()).unwrap_or(0),
            head: head.to_lowercase(),
            body: serde_json::from_str(body).unwrap_or(Value::Null),
        }
    }

    fn get(&self, path: &str) -> Answer {
        self.send(&format!("GET {path} HTTP/1.1\r\nhost: dyad\r\nconnection: close\r\n\r\n"))
    }

    fn delete(&self, path: &str) -> Answer {
        self.send(&format!("DELETE {path} HTTP/1.1\r\nhost: dyad\r\nconnection: close\r\n\r\n"))
    }

    fn post(&self, path: &str, body: &Value) -> Answer {
        self.post_text(path, &body.to_string())
    }

    fn put(&self, path: &str, body: &Value) -> Answer {
        self.send_text("PUT", path, &body.to_string())
    }

    fn patch(&self, path: &str, body: &Value) -> Answer {
        self.send_text("PATCH", path, &body.to_string())
    }

    fn post_text(&self, path: &str, body: &str) -> Answer {
        self.send_text("POST", path, body)
    }

    fn send_text(&self, method: &str, path: &str, body: &str) -> Answer {
        self.send(&format!(
            "{method} {path} HTTP/1.1\r\nhost: dyad\r\nconnection: close\r\ncontent-type: application/json\r\n\
             content-length: {}\r\n\r\n{body}",
            body.len()
        ))
    }
}

impl Answer {
    /// A problem of this kind, complete.
    fn expect_problem(&self, status: u16, word: &str, detail: &str) {
        assert_eq!(self.status, status, "{}", self.body);
        assert!(self.head.contains("content-type: application/problem+json"), "{}", self.head);
        assert_eq!(self.body["type"], format!("urn:dyad:problem:{word}"));
        assert_eq!(self.body["status"], status);
        assert!(self.body["detail"].as_str().unwrap().contains(detail), "{}", self.body);
        assert!(!self.body["advice"].as_str().unwrap().is_empty());
    }
}

#[test]
fn a_glance_says_what_is_redundant_and_what_is_not() {
    let answer = Stage::busy().get("/v1/status");
    assert_eq!(answer.status, 200);
    let sentence = |at: usize| answer.body["volumes"][at]["redundancy"]["sentence"].as_str().unwrap().to_owned();
    assert_eq!(sentence(0), "yes: 2 images in-sync");
    assert_eq!(sentence(1), "NO: 1 of 2 images in-sync; the one in pool b is stale: its pool's disk failed a sync");
    assert_eq!(sentence(2), "no: it has one image");
}

#[test]
fn things_are_found_by_name_and_by_id() {
    let stage = Stage::busy();
    for path in ["pools/a", "volumes/vm1", "sessions/7", "nodes/node-1", "disks/%2Fsrv%2Fa.pool"] {
        assert_eq!(stage.get(&format!("/v1/{path}")).status, 200, "{path}");
    }
    let by_name = stage.get("/v1/volumes/vm1").body;
    assert_eq!(stage.get(&format!("/v1/volumes/{}", by_name["id"].as_str().unwrap())).body, by_name);
    let image = by_name["images"][0]["id"].as_str().unwrap();
    assert_eq!(stage.get(&format!("/v1/images/{image}")).body, by_name["images"][0]);
    assert_eq!(stage.get("/v1/pools").body["items"].as_array().unwrap().len(), 2);
}

#[test]
fn what_is_not_there_is_said_so() {
    let stage = Stage::busy();
    for kind in ["pool", "volume", "image", "session", "node", "disk"] {
        stage.get(&format!("/v1/{kind}s/none")).expect_problem(404, "not-found", &format!("there is no {kind} `none`"));
    }
    stage.get("/v1/nothing").expect_problem(404, "no-such-path", "no such path");
    stage.delete("/v1/status").expect_problem(405, "method-not-allowed", "method");
    stage.delete("/v1/sessions/99").expect_problem(404, "not-found", "session `99`");
}

/// Each node counts its sessions for itself.
#[test]
fn a_session_is_named_by_its_node_where_its_number_means_several() {
    let stage = Stage::with(FakeNode::with_twins(), Guard::FileMode);
    for refused in [stage.get("/v1/sessions/7"), stage.delete("/v1/sessions/7")] {
        refused.expect_problem(409, "refused", "sessions of several nodes have the number 7");
        assert!(refused.body["advice"].as_str().unwrap().contains("`node-1:7` or `node-2:7`"), "{}", refused.body);
    }
    assert_eq!(stage.get("/v1/sessions/node-2:7").body["node"], "node-2");
    stage.delete("/v1/sessions/node-3:7").expect_problem(404, "not-found", "session");
    assert_eq!(stage.delete("/v1/sessions/node-2:7").status, 204);
    assert_eq!(stage.get("/v1/sessions/7").body["node"], "node-1");
    assert_eq!(stage.delete("/v1/sessions/7").status, 204);
    assert!(stage.get("/v1/sessions").body["items"].as_array().unwrap().is_empty());
    for odd in ["node-1:", ":", "7x", "node-1:-7", "node-1:18446744073709551616"] {
        stage.get(&format!("/v1/sessions/{odd}")).expect_problem(404, "not-found", "session");
    }
}

#[test]
fn a_pool_and_a_volume_live_and_die() {
    let stage = Stage::with(FakeNode::empty(), Guard::FileMode);
    let pool = json!({"name": "fast", "disks": [{"path": "/dev/sdx"}]});
    let answer = stage.post("/v1/pools", &pool);
    assert_eq!(answer.status, 201);
    assert!(answer.head.contains("location: /v1/pools/fast"), "{}", answer.head);
    stage.post("/v1/pools", &pool).expect_problem(409, "exists", "already a pool `fast`");

    let answer = stage.post("/v1/volumes", &json!({"name": "vm", "size_bytes": 1 << 30, "pools": ["fast"]}));
    assert_eq!((answer.status, answer.body["block_bytes"].as_u64()), (201, Some(512)));
    stage.delete("/v1/pools/fast").expect_problem(409, "in-use", "1 images");

    assert_eq!(stage.delete("/v1/volumes/vm").status, 204);
    stage.get("/v1/volumes/vm").expect_problem(404, "not-found", "vm");
}

#[test]
fn an_image_that_no_record_names_is_shown_by_its_pool_and_deleted_by_word() {
    let stage = Stage::busy();
    let orphan =
        |pool: &str| stage.get(&format!("/v1/pools/{pool}")).body["orphans"][0]["id"].as_str().map(str::to_owned);
    let (here, elsewhere) = (orphan("a").unwrap(), orphan("b").unwrap());
    assert_eq!(stage.delete(&format!("/v1/orphans/{here}")).status, 204);
    assert_eq!(orphan("a"), None);
    stage.delete(&format!("/v1/orphans/{here}")).expect_problem(404, "not-found", &here);
    stage.delete(&format!("/v1/orphans/{elsewhere}")).expect_problem(409, "refused", "in a pool of node");
}

#[test]
fn images_and_owners_change_in_use() {
    let stage = Stage::busy();
    let answer = stage.post("/v1/images", &json!({"volume": "vm1", "pool": "c"}));
    let id = answer.body["id"].as_str().unwrap().to_owned();
    assert_eq!((answer.status, answer.body["state"].as_str()), (201, Some("stale")));
    assert!(answer.head.contains(&format!("location: /v1/images/{id}")), "{}", answer.head);
    stage.post("/v1/images", &json!({"volume": "none"})).expect_problem(404, "not-found", "volume `none`");
    stage.post("/v1/images", &json!({"volume": "vm1", "pol": "c"})).expect_problem(422, "invalid", "pol");
    let post = |what: &str, body: Value| stage.post(&format!("/v1/images/{id}/{what}"), &body);
    assert_eq!(post("detach", json!({})).body["state"], "detached");
    let target = post("export", json!({})).body["export"].as_str().unwrap().to_owned();
    assert!(target.ends_with(&format!(":vm1:{id}")), "{target}");
    assert_eq!(stage.delete(&format!("/v1/images/{id}/export")).status, 204);
    stage.delete("/v1/images/none/export").expect_problem(404, "not-found", "none");
    assert_eq!(post("reattach", json!({})).body["state"], "stale");
    assert_eq!(post("move", json!({"pool": "d"})).body["pool"], "d");
    post("promote", json!({})).expect_problem(409, "refused", "would be lost");
    assert_eq!(post("promote", json!({"accept_loss": true})).body["name"], "vm1");
    assert_eq!(stage.get(&format!("/v1/images/{id}/loss")).body["bytes_max"], 0);
    assert_eq!(stage.get(&format!("/v1/images/{id}/content?offset=262144")).status, 200);
    assert_eq!(stage.post("/v1/volumes/vm1/owner", &json!({"node": "two"})).body["owner"], "two");
    let forget = |body: Value| stage.post("/v1/volumes/vm1/forget-reservations", &body);
    forget(json!({"force": true})).expect_problem(409, "refused", "would be lost");
    forget(json!({"accept": true})).expect_problem(422, "invalid", "accept");
    assert_eq!(forget(json!({"accept_loss": true})).body["name"], "vm1");
    assert_eq!(stage.delete(&format!("/v1/images/{id}")).status, 204);
    let left = stage.get("/v1/volumes/vm1").body["images"][0]["id"].as_str().unwrap().to_owned();
    stage.delete(&format!("/v1/images/{left}")).expect_problem(409, "refused", "not be redundant");
    assert_eq!(stage.delete(&format!("/v1/images/{left}?force=true")).status, 204);
}

#[test]
fn who_may_use_a_volume_and_how_much_is_changed_in_use() {
    let stage = Stage::busy();
    let allow = |body: Value| stage.patch("/v1/volumes/vm1/access", &body);
    let grant = json!({"initiator": "iqn.2004-10.com.example:a", "right": "read-only"});
    let answer = allow(grant.clone());
    assert_eq!((answer.status, &answer.body["access"]["initiators"]), (200, &json!([grant])));
    assert_eq!(answer.body["access"].get("everybody"), None, "the first name closes it to others");
    for forgotten in [json!({}), json!({"initiator": "iqn.2004-10.com.example:a"})] {
        assert_eq!(allow(forgotten).status, 422, "who is shut out is said, not left out");
    }
    assert_eq!(allow(json!({"right": "read-write"})).body["access"]["everybody"], "read-write");
    allow(json!({"initiator": "host", "right": "read-only"})).expect_problem(422, "invalid", "initiator name");
    allow(json!({"initiator": "iqn.x", "right": "write-only"})).expect_problem(422, "invalid", "write-only");
    let limit = |body: Value| stage.put("/v1/volumes/vm1/limits", &body);
    let limits = json!({"iops": 500, "bytes_per_second": 1 << 20, "burst_seconds": 3});
    assert_eq!(limit(limits.clone()).body["limits"], limits);
    limit(json!({"iops": 9})).expect_problem(422, "invalid", "too few");
    limit(json!({"burst_seconds": 9})).expect_problem(422, "invalid", "needs a limit");
    limit(json!({"iosp": 9})).expect_problem(422, "invalid", "iosp");
}

#[test]
fn a_volume_in_use_is_deleted_only_by_force() {
    let stage = Stage::busy();
    stage.delete("/v1/volumes/vm1").expect_problem(409, "in-use", "1 host is logged in");
    stage.delete("/v1/volumes/vm1?forse=true").expect_problem(400, "malformed", "forse");
    assert_eq!(stage.delete("/v1/volumes/vm1?force=true").status, 204);
}

#[test]
fn a_secret_goes_in_but_never_comes_out() {
    let stage = Stage::busy();
    let access = json!({"chap": {"user": "host", "secret": "twelve bytes and more"}});
    let volume = json!({"name": "safe", "size_bytes": 4096, "pools": ["a"], "access": access});
    let answer = stage.post("/v1/volumes", &volume);
    assert_eq!((answer.status, answer.body["access"]["chap_user"].as_str()), (201, Some("host")));
    assert!(!answer.body.to_string().contains("twelve"));
    assert!(!stage.get("/v1/status").body.to_string().contains("twelve"));
}

#[test]
fn a_bad_value_is_refused_with_its_field_and_the_rule() {
    let stage = Stage::busy();
    let good = json!({"name": "v", "size_bytes": 4096, "pools": ["a"]});
    let cases = [
        ("name", json!("Bad Name"), "`name`"),
        ("name", json!("00000000-0000-0000-0000-000000000001"), "look like an id"),
        ("size_bytes", json!(0), "multiple of 4 KiB"),
        ("size_bytes", json!(1000), "multiple of 4 KiB"),
        ("size_bytes", json!(1_u64 << 60), "is more than a volume can have"),
        ("pools", json!(["a", "b", "c", "d", "e"]), "at most 4 images"),
        ("pools", json!(["a", "a"]), "named twice"),
        ("block_bytes", json!(520), "neither 512 nor 4096"),
        ("min_in_sync", json!(2), "`min_in_sync`"),
        ("access", json!({"initiators": ["host"]}), "`initiators`"),
        ("access", json!({"chap": {"user": "u", "secret": "short"}}), "12 to 255"),
        ("access", json!({"mutual_chap": {"user": "u", "secret": "long enough secret"}}), "needs `chap`"),
        ("colour", json!("red"), "unknown field `colour`"),
    ];
    for (field, value, detail) in cases {
        let mut request = good.clone();
        request[field] = value;
        stage.post("/v1/volumes", &request).expect_problem(422, "invalid", detail);
    }
    stage.post("/v1/pools", &json!({"name": "p", "disks": [{"path": "p"}]})).expect_problem(422, "invalid", "absolute");
    let two = json!({"name": "p", "disks": [{"path": "/a"}, {"path": "/b"}]});
    stage.post("/v1/pools", &two).expect_problem(501, "unsupported", "more than one disk");
}

#[test]
fn odd_requests_are_refused_and_the_server_lives_on() {
    let stage = Stage::busy();
    stage.post_text("/v1/volumes", "{").expect_problem(400, "malformed", "not JSON");
    let plain = "POST /v1/volumes HTTP/1.1\r\nhost: d\r\nconnection: close\r\ncontent-length: 2\r\n\r\n{}";
    stage.send(plain).expect_problem(415, "not-json", "does not say");
    let endless = format!("{{\"name\": \"{}\"}}", "x".repeat(70_000));
    stage.post_text("/v1/volumes", &endless).expect_problem(413, "too-large", "65536 bytes");
    assert_eq!(stage.send("no HTTP at all\r\n\r\n").status, 400);
    let long = stage.send(&format!("GET /{} HTTP/1.1\r\n\r\n", "x".repeat(100_000)));
    assert!(matches!(long.status, 414 | 431), "{}", long.head);
    assert_eq!(stage.get("/v1/status").status, 200);
}

/// A fault of the program must not take the interface down, nor keep the place of the request that met it: more
/// requests meet it here than there are places.
#[test]
fn a_request_that_meets_a_fault_is_answered_and_gives_its_place_back() {
    let stage = Stage::busy();
    for _ in 0..20 {
        let answer = stage.post("/v1/pools", &json!({"name": "p", "disks": [{"path": "/panic"}]}));
        answer.expect_problem(500, "failed", "a fault of the program");
    }
    assert_eq!(stage.get("/v1/status").status, 200);
}

/// However many ask, the node is asked by a bounded number at a time; the others are told to come again.
#[test]
fn more_requests_than_there_are_places_are_told_to_come_again() {
    let stage = Stage::busy();
    let slow = json!({"name": "p", "disks": [{"path": "/gate"}]});
    std::thread::scope(|scope| {
        let gate = fake::GATE.lock().unwrap();
        // One may come while the last place is taken by a question; it comes again, too.
        let ask = || {
            (0..100_000)
                .map(|_| stage.post("/v1/pools", &slow))
                .find(|answer| !answer.body["type"].as_str().unwrap().ends_with("busy"))
        };
        let waiting: Vec<_> = (0..16).map(|_| scope.spawn(ask)).collect();
        let busy = (0..100_000).map(|_| stage.get("/v1/status")).find(|answer| answer.status != 200).unwrap();
        busy.expect_problem(503, "busy", "too many");
        assert!(busy.head.contains("retry-after: 1"));
        drop(gate);
        waiting
            .into_iter()
            .for_each(|asker| asker.join().unwrap().unwrap().expect_problem(503, "unavailable", "shutting down"));
    });
    assert_eq!(stage.get("/v1/status").status, 200);
}

#[test]
fn a_token_is_wanted_where_one_is_configured() {
    let guard = Guard::Token(dyad_api::TokenHash::of("t0ken"));
    let stage = Stage::with(FakeNode::busy(), guard);
    stage.get("/v1/status").expect_problem(401, "unauthorized", "wants a token");
    assert!(stage.get("/v1/openapi.json").head.contains("www-authenticate: bearer"));
    let with = |token| {
        format!("GET /v1/status HTTP/1.1\r\nhost: d\r\nconnection: close\r\nauthorization: Bearer {token}\r\n\r\n")
    };
    stage.send(&with("wrong")).expect_problem(401, "unauthorized", "not the right one");
    assert_eq!(stage.send(&with("t0ken")).status, 200);
}

#[test]
fn the_description_is_served() {
    let answer = Stage::busy().get("/v1/openapi.json");
    assert_eq!(answer.body.to_string(), serde_json::from_str::<Value>(&dyad_api::openapi_json()).unwrap().to_string());
}

/// A hundred clients that connect and say nothing must not keep one that asks out for ever: its turn comes when
/// the silent ones are dropped. Here only the bound is shown: the server takes no more than its share.
#[test]
fn silent_clients_take_a_bounded_number_of_places() {
    let stage = Stage::busy();
    let silent: Vec<_> =
        (0..dyad_api::CONNECTIONS_MAX - 1).map(|_| UnixStream::connect(&stage.socket).unwrap()).collect();
    assert_eq!(stage.get("/v1/status").status, 200);
    drop(silent);
    assert_eq!(stage.get("/v1/status").status, 200);
    drop(stage.runtime);
}
