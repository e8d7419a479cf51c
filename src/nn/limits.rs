//! Limits of a graph, so that a hostile graph cannot request all memory.

/// Maximum number of dimensions of a value, without the batch.
pub const MAX_RANK: usize = 8;
/// Maximum number of elements of a value per batch row: far above any real network of this kind,
/// and low enough that sizes cannot overflow and a hostile file cannot request all memory.
pub const MAX_ELEMENTS: usize = 1 << 28;
/// Maximum number of elements, per batch row, of all values of a graph together with their working
/// copies. The same limit applies to the weights of all nodes. Together they bound the memory of a
/// run and of a plan.
pub const MAX_TOTAL: usize = 1 << 28;
/// Maximum number of nodes of a graph.
pub const MAX_NODES: usize = 1 << 16;
