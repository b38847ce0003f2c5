//! Checks the manifests as a whole: each overlay, with each `ScaledObject`, against Kubernetes' and KEDA's schemas, against
//! our binaries, and against itself. No cluster, no kustomize, no network.
//!
//! Every check is a function from manifests to a list of problems: none for what is in the repository, and the right
//! one for each of the damages in `damaged.rs`, so that no check can pass by looking away.

mod binaries;
mod checked;
mod damaged;
mod examples;
mod fixture;
mod image;
mod kubernetes;
mod monitoring;
mod network;
mod pods;
mod references;
mod scaled_objects;

use deploy::Manifests;
use fixture::Scenario;

/// All problems of one set of manifests.
fn problems(manifests: &Manifests) -> Vec<String> {
    let checks = [
        kubernetes::problems,
        references::problems,
        pods::problems,
        network::problems,
        binaries::problems,
        scaled_objects::problems,
        checked::problems,
        image::problems,
    ];
    checks.into_iter().flat_map(|check| check(manifests)).collect()
}

#[test]
fn every_overlay_is_sound_with_every_scaled_object() {
    for overlay in fixture::OVERLAYS {
        for scaled_object in fixture::scaled_object_files() {
            let scenario = Scenario::read(overlay, &scaled_object);
            assert_eq!(
                problems(&scenario.manifests),
                Vec::<String>::new(),
                "{overlay} with {}",
                scaled_object.display()
            );
        }
    }
}

#[test]
fn every_overlay_is_sound_as_it_stands() {
    for overlay in fixture::OVERLAYS {
        assert_eq!(problems(&fixture::overlay(overlay)), Vec::<String>::new(), "{overlay}");
    }
}

#[test]
fn the_scaled_object_in_force_is_the_plain_one() {
    let manifests = fixture::overlay("azure");
    let kinds: Vec<_> = manifests
        .of_kind("ScaledObject")
        .filter_map(|document| document.text("/spec/triggers/0/type").map(str::to_owned))
        .collect();
    assert_eq!(kinds, ["external"]);
}

#[test]
fn whoever_can_reach_a_scaler_on_azure_is_named() {
    for overlay in ["azure", "azure-workload-identity"] {
        assert!(fixture::overlay(overlay).find("NetworkPolicy", "servicebus-scaler").is_some(), "{overlay}");
    }
}

#[test]
fn every_yaml_file_here_is_checked() {
    let mut read: Vec<_> = fixture::OVERLAYS.into_iter().flat_map(|name| fixture::overlay(name).files).collect();
    read.extend(fixture::scaled_object_files());
    read.extend(fixture::example_files());
    read.extend(monitoring::files());
    let read: Vec<_> = read.iter().map(|path| path.canonicalize().expect("it was read")).collect();
    let unread: Vec<_> = fixture::yaml_files().into_iter().filter(|path| !read.contains(path)).collect();
    assert_eq!(unread, Vec::<std::path::PathBuf>::new(), "no overlay and no check reads these");
}
