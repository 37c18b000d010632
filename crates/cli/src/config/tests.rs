use std::fs;
use std::os::unix::fs::PermissionsExt;

use dyad_node::settings::BackendChoice;
use dyad_units::{Bytes, Period};

use super::{Config, ConfigErrors, LogFormat, example, reference};

/// The errors as the administrator sees them, without the file's name.
fn errors(text: &str) -> String {
    let errors = Config::parse(text).expect_err("it is wrong");
    ConfigErrors { path: "f".into(), errors }.to_string()
}

#[test]
fn an_empty_file_is_a_configuration() {
    let config = Config::parse("").unwrap();
    assert_eq!(config.settings.iscsi.portals, dyad_node::Settings::default().iscsi.portals);
    assert_eq!((config.api.socket_mode, config.log.format), (0o660, LogFormat::Text));
}

#[test]
fn values_reach_the_settings() {
    let config = Config::parse(
        r#"
        node_name = "left"
        buffers = "1 GiB"
        stop_timeout = "2min"
        [iscsi]
        portals = ["192.0.2.1", "[2001:db8::1]:3261"]
        queue_depth = 64
        burst_max = 524288
        [disk]
        backend = "threads"
        lock_timeout = "500ms"
        [api]
        socket_mode = "0600"
        listen = "127.0.0.1:8400"
        [log]
        format = "json"
        level = "debug"
        "#,
    )
    .unwrap();
    let settings = &config.settings;
    assert_eq!((settings.node_name.as_str(), settings.buffers), ("left", Bytes::gib(1)));
    assert_eq!(settings.stop_timeout, Period::from_secs(120));
    let portals: Vec<_> = settings.iscsi.portals.iter().map(ToString::to_string).collect();
    assert_eq!(portals, ["192.0.2.1:3260", "[2001:db8::1]:3261"]);
    assert_eq!((settings.iscsi.queue_depth, settings.iscsi.burst_max), (64, Bytes::kib(512)));
    assert_eq!((settings.disk.backend, settings.disk.lock_timeout), (BackendChoice::Threads, Period::from_millis(500)));
    assert_eq!((config.api.socket_mode, config.log.level), (0o600, tracing::Level::DEBUG));
}

#[test]
fn an_unknown_key_is_refused_with_its_line_and_the_nearest() {
    let cases = [
        ("nod_name = \"a\"", "f:1:1: there is no key `nod_name`; did you mean `node_name`?"),
        ("\n[iscsi]\n  portal = []", "f:3:3: there is no key `iscsi.portal`; did you mean `iscsi.portals`?"),
        ("portals = []", "f:1:1: there is no key `portals`; did you mean `iscsi.portals`?"),
        ("[iscsi]\nquedepth = 1", "f:2:1: there is no key `iscsi.quedepth`; did you mean `iscsi.queue_depth`?"),
        ("[zzz]", "f:1:2: there is no section `[zzz]`; `dyad config reference` lists all keys"),
        ("[isci]", "f:1:2: there is no section `[isci]`; did you mean `[iscsi]`?"),
        ("iscsi = 1", "f:1:1: `iscsi` is a section: write `[iscsi]` and its keys below"),
    ];
    for (text, message) in cases {
        assert_eq!(errors(text), message, "{text}");
    }
}

#[test]
fn a_wrong_value_is_refused_with_its_place_and_what_is_wanted() {
    let cases = [
        ("buffers = true", "f:1:11: `buffers` wants a size such as \"64 MiB\", not a boolean"),
        ("buffers = -1", "f:1:11: `buffers` wants a whole number, not negative, not an integer"),
        (
            "stop_timeout = 30",
            "f:1:16: `stop_timeout` wants a time with its unit, such as \"10s\" (ms, s, min or h), not an integer",
        ),
        ("stop_timeout = \"0s\"", "f:1:16: `stop_timeout` wants a time of 1 ms to a year, not `0s`"),
        ("data_dir = \"here\"", "f:1:12: `data_dir` wants an absolute path, not `here`"),
        (
            "[log]\nlevel = \"loud\"",
            "f:2:9: `log.level` wants one of \"error\", \"warn\", \"info\", \"debug\", \"trace\", not `loud`",
        ),
        ("[api]\nsocket_mode = \"0777\"", "f:2:15: `api.socket_mode` wants a mode such as \"0660\", not `0777`"),
        ("[disk]\nthreads = 1", "f:2:1: `disk.threads`: use 2 to 64"),
        ("buffers = \"1 KiB\"", "f:1:1: `buffers`: use 64 MiB to 1 TiB"),
    ];
    for (text, message) in cases {
        assert_eq!(errors(text), message, "{text}");
    }
}

#[test]
fn all_errors_are_told_at_once_in_the_order_of_lines() {
    let all = errors("[log]\nlevel = 1\ncolour = true\n[api]\nlisten = \"here\"");
    let lines: Vec<_> = all.lines().map(|line| &line[..4]).collect();
    assert_eq!(lines, ["f:2:", "f:3:", "f:5:"]);
}

#[test]
fn what_is_not_toml_is_refused_with_its_line() {
    assert!(errors("a = 1\nb = = 2\n").starts_with("f:2:"), "{}", errors("a = 1\nb = = 2\n"));
    assert!(errors(&"[".repeat(10_000)).starts_with("f:1:"));
}

/// Broke once (review): a section added below what `dyad cluster init` wrote was "not TOML".
#[test]
fn a_section_that_was_begun_as_dotted_keys_is_said() {
    let told = errors("iscsi.target_prefix = \"iqn.2026-11.example\"\n[iscsi]\nportals = [\"192.0.2.1\"]\n");
    assert!(told.contains(":2:") && told.contains("write each once, and in one way"), "{told}");
}

#[test]
fn administration_reachable_from_elsewhere_wants_a_token() {
    let open = "[api]\nlisten = \"192.0.2.1:8400\"";
    assert!(errors(open).starts_with("f:2:1: `api.listen` is reachable from other machines"), "{}", errors(open));
    let hash = dyad_api::TokenHash::of("token").to_string();
    assert!(Config::parse(&format!("{open}\ntoken_sha256 = \"{hash}\"")).is_ok());
}

/// A token pasted where its hash belongs must not end up in a log.
#[test]
fn a_token_in_place_of_its_hash_is_not_repeated() {
    let message = errors("[api]\ntoken_sha256 = \"my-own-token\"");
    assert!(message.contains("is not a hash") && !message.contains("my-own"), "{message}");
}

#[test]
fn the_discovery_secret_comes_from_a_file_that_others_cannot_read() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("secret");
    fs::write(&file, "a secret of some length\n").unwrap();
    let text = format!("[iscsi.discovery_chap]\nuser = \"host\"\nsecret_file = {file:?}");
    fs::set_permissions(&file, fs::Permissions::from_mode(0o644)).unwrap();
    assert!(errors(&text).contains("can be read by everybody"), "{}", errors(&text));
    fs::set_permissions(&file, fs::Permissions::from_mode(0o640)).unwrap();
    let chap = Config::parse(&text).unwrap().settings.iscsi.discovery_chap.unwrap();
    assert_eq!((chap.user.as_str(), chap.secret.as_str()), ("host", "a secret of some length"));
    let half = "[iscsi.discovery_chap]\nuser = \"host\"";
    assert_eq!(errors(half), "f:2:1: `iscsi.discovery_chap` wants both `user` and `secret_file`");
}

#[test]
fn the_example_is_a_configuration_and_says_the_defaults() {
    assert!(Config::parse(&example()).is_ok());
    let all_set: String = example()
        .lines()
        .filter(|line| !line.ends_with("# not set"))
        .map(|line| match line.strip_prefix('#') {
            Some(key) if !key.starts_with(' ') => format!("{key}\n"),
            _ => format!("{line}\n"),
        })
        .collect();
    let config = Config::parse(&all_set).unwrap();
    assert_eq!(format!("{config:?}"), format!("{:?}", Config::default()));
}

/// `DYAD_BLESS=1` writes the files instead of comparing them.
#[test]
fn the_reference_and_the_example_in_the_repository_are_those_of_the_code() {
    for (path, generated) in [("docs/configuration.md", reference()), ("packaging/dyad.toml", example())] {
        let file = format!("{}/../../{path}", env!("CARGO_MANIFEST_DIR"));
        if std::env::var_os("DYAD_BLESS").is_some() {
            fs::write(&file, generated).unwrap();
            continue;
        }
        let committed = fs::read_to_string(&file).unwrap_or_default();
        assert!(committed == generated, "{path} is out of date; run this test with DYAD_BLESS=1 and look at the diff");
    }
}
