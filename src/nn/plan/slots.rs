//! Which values share a buffer.

use super::{Plan, Value};

impl Plan {
    /// Gives every value a buffer; buffers whose value is no longer needed are used again.
    ///
    /// `held_by` says for each value of the graph which planned one holds it.
    pub(super) fn assign_slots(&mut self, held_by: &[usize]) {
        let mut last_use = vec![0; self.values.len()];
        for (i, step) in self.steps.iter().enumerate() {
            for &input in &step.inputs {
                last_use[input] = i;
            }
        }
        for output in &self.outputs {
            last_use[output.value] = usize::MAX;
        }
        let mut free: Vec<usize> = Vec::new();
        let mut used = 0;
        let mut new_slot = |free: &mut Vec<usize>| {
            free.pop().unwrap_or_else(|| {
                used += 1;
                used - 1
            })
        };
        for input in &self.inputs {
            self.values[input.value].slot = new_slot(&mut free);
        }
        for (i, step) in self.steps.iter().enumerate() {
            self.values[step.output].slot = new_slot(&mut free);
            if self.keeps_all {
                continue;
            }
            let mut done: Vec<usize> = step.inputs.clone();
            // A result that nobody reads is done with at once.
            done.push(step.output);
            done.sort_unstable();
            done.dedup();
            for value in done {
                if last_use[value] == i || (value == step.output && last_use[value] == 0) {
                    free.push(self.values[value].slot);
                }
            }
        }
        self.slots = used;
        let mut sizes = vec![0; used];
        let inputs = self.inputs.iter().map(|input| input.value);
        for value in inputs.chain(self.steps.iter().map(|step| step.output)) {
            let Value { slot, elements, .. } = self.values[value];
            sizes[slot] = elements.max(sizes[slot]);
        }
        self.elements = sizes.iter().sum();
        if self.keeps_all {
            // Values that are held by another one are read through it.
            for (value, &held) in held_by.iter().enumerate() {
                self.values[value].slot = self.values[held].slot;
                self.values[value].drawn = self.values[held].drawn;
            }
        }
    }
}
