//! Checks that the manifests fit Kubernetes, KEDA and our binaries.
