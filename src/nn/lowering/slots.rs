//! Assignment of values to buffers.

use super::Parts;

impl<W> Parts<W> {
    /// Assigns a slot to every value; slots of dead values are reused.
    ///
    /// `stored_in` maps each value of the graph to the planned value that stores it.
    pub(super) fn assign_slots(&mut self, held_by: &[usize]) {
        let mut last_use = vec![None; self.values.len()];
        for (i, step) in self.steps.iter().enumerate() {
            for &value in &step.inputs {
                last_use[value] = Some(i);
            }
            // A result without readers is dead immediately.
            for value in [step.output].into_iter().chain(step.second) {
                last_use[value].get_or_insert(i);
            }
        }
        for output in &self.outputs {
            last_use[output.value] = None;
        }
        let mut free: Vec<usize> = Vec::new();
        let mut used = 0;
        let mut slot = |free: &mut Vec<usize>| {
            free.pop().unwrap_or_else(|| {
                used += 1;
                used - 1
            })
        };
        for input in &self.inputs {
            self.values[input.value].slot = slot(&mut free);
        }
        for (i, step) in self.steps.iter().enumerate() {
            let mut touched = vec![step.output];
            touched.extend(step.second);
            for &value in &touched {
                self.values[value].slot = slot(&mut free);
            }
            if self.keeps_all {
                continue;
            }
            touched.extend(&step.inputs);
            touched.sort_unstable();
            touched.dedup();
            for value in touched {
                if last_use[value] == Some(i) {
                    free.push(self.values[value].slot);
                }
            }
        }
        self.slots = used;
        if self.keeps_all {
            // A value stored in another one is read through it.
            for (value, &held) in held_by.iter().enumerate() {
                self.values[value].slot = self.values[held].slot;
                self.values[value].drawn = self.values[held].drawn;
            }
        }
    }
}
