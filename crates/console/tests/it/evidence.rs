//! H15: evidence of sick runs by HTTP: for operators, and nothing but evidence.

use crate::house::{House, STRANGER, curl_as, open_in};
use config::{ApiSettings, Principal};
use control::{EvidenceFile, EvidenceIndex};
use journal::evidence::{BundleId, Evidence};
use tempfile::TempDir;

const ID: &str = "20261124T102233.123Z-17";

fn house(api: ApiSettings) -> House {
    let dir = TempDir::new().unwrap();
    let bundle = BundleId::new("web:1", ID).unwrap();
    let place = Evidence::of_state(dir.path()).directory(&bundle);
    std::fs::create_dir_all(&place).unwrap();
    let index = EvidenceIndex {
        id: ID.into(),
        instance: "web:1".into(),
        run: 17,
        cause: "it hung".into(),
        files: vec![EvidenceFile { name: "threads.txt".into(), bytes: 600_000, about: "x".into() }],
        ..EvidenceIndex::default()
    };
    std::fs::write(place.join("index.json"), serde_json::to_vec(&index).unwrap()).unwrap();
    std::fs::write(place.join("threads.txt"), "x".repeat(600_000)).unwrap();
    std::fs::write(dir.path().join("secret.txt"), "nobody's business").unwrap();
    open_in(dir, api, None)
}

#[test]
fn h15_bundles_are_listed_described_and_read() {
    let house = house(ApiSettings::default());
    for path in ["/api/v1/evidence", "/api/v1/evidence?of=web", "/api/v1/evidence?of=web:1"] {
        let list = house.get(path);
        let bundles = &list.json()["bundles"];
        assert_eq!((list.status, bundles.as_array().unwrap().len()), (200, 1), "{path}");
        assert_eq!((&bundles[0]["id"], &bundles[0]["cause"]), (&ID.into(), &"it hung".into()));
    }
    assert_eq!(house.get("/api/v1/evidence?of=other").json()["bundles"], serde_json::json!([]));
    let index = house.get(&format!("/api/v1/evidence/web:1/{ID}"));
    assert_eq!((index.status, &index.json()["run"]), (200, &17.into()));
    let file = house.get(&format!("/api/v1/evidence/web:1/{ID}/threads.txt"));
    assert_eq!((file.status, file.body.len()), (200, 600_000));
}

#[test]
fn h15_no_path_leads_out_of_the_evidence() {
    let house = house(ApiSettings::default());
    for path in [
        format!("/api/v1/evidence/web:1/{ID}/missing.txt"),
        format!("/api/v1/evidence/web:1/{ID}/..%2f..%2f..%2fsecret.txt"),
        format!("/api/v1/evidence/web:1/{ID}/%2e%2e"),
        format!("/api/v1/evidence/..%2f..%2f/{ID}"),
        "/api/v1/evidence/web:1/..%2f..".to_owned(),
        "/api/v1/evidence/web:1/20261124T102233.123Z-18".to_owned(),
        "/api/v1/evidence/web:2/20261124T102233.123Z-17".to_owned(),
    ] {
        let answer = house.get(&path);
        assert_eq!(answer.status, 404, "{path}");
        assert!(!answer.body.contains("business"), "{path}");
    }
}

#[test]
fn h15_who_may_only_look_does_not_see_evidence() {
    let viewers = ApiSettings { viewers: vec![Principal::Everyone], ..ApiSettings::default() };
    let house = house(viewers);
    let socket = house.socket().display().to_string();
    let status = |path: &str| {
        let url = format!("http://localhost{path}");
        curl_as(STRANGER, &["--unix-socket", &socket, &url]).0
    };
    assert_eq!(status("/api/v1/status"), 200);
    assert_eq!(status("/api/v1/evidence"), 403);
    assert_eq!(status(&format!("/api/v1/evidence/web:1/{ID}")), 403);
    assert_eq!(status(&format!("/api/v1/evidence/web:1/{ID}/threads.txt")), 403);
}
