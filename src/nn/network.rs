//! A graph with its role, its origin and its self-test.

use serde::{Deserialize, Serialize};

use super::graph::Graph;
use super::self_test::SelfTest;

/// Origin of a converted network.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Provenance {
    /// Name of the converted file, without its folder.
    pub file: String,
    /// SHA-256 of the converted file, in hexadecimal.
    pub sha256: String,
    /// Keras version stated in the file (`2.2.4`, `2.2.4-tf`), if any.
    pub keras_version: Option<String>,
    /// Backend stated in the file, for example `tensorflow`.
    pub backend: Option<String>,
}

/// One network of a bundle. The engine does not interpret its role `R`.
#[derive(Debug, Clone, PartialEq)]
pub struct Network<R> {
    /// Purpose of the network.
    pub role: R,
    /// Layers and weights.
    pub graph: Graph,
    /// The file that the network was converted from.
    pub provenance: Provenance,
    /// Input and output pair that [`Network::replay_self_test`] checks; a network without one passes.
    pub self_test: Option<SelfTest>,
}
