//! The description of the interface is committed, so that every change of it is seen in review.

/// `DYAD_BLESS=1` writes the file instead of comparing it.
#[test]
fn the_committed_description_is_that_of_the_code() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/openapi.json");
    let generated = dyad_api::openapi_json();
    if std::env::var_os("DYAD_BLESS").is_some() {
        std::fs::write(path, generated).unwrap();
        return;
    }
    let committed = std::fs::read_to_string(path).unwrap_or_default();
    assert!(
        committed == generated,
        "docs/openapi.json is out of date; run this test with DYAD_BLESS=1 and look at the diff"
    );
}

#[test]
fn the_description_is_openapi_3_1_and_every_answer_may_be_a_problem() {
    let api: serde_json::Value = serde_json::from_str(&dyad_api::openapi_json()).unwrap();
    assert!(api["openapi"].as_str().unwrap().starts_with("3.1"));
    let paths = api["paths"].as_object().unwrap();
    assert!(paths.keys().all(|path| path.starts_with("/v1/")));
    let mut ids = std::collections::BTreeSet::new();
    for (path, methods) in paths {
        for (method, operation) in methods.as_object().unwrap() {
            let problem = &operation["responses"]["default"]["content"]["application/problem+json"];
            assert!(problem.is_object(), "{method} {path}");
            assert!(operation["summary"].is_string(), "{method} {path}");
            assert!(ids.insert(operation["operationId"].to_string()), "{method} {path}");
        }
    }
}
