//! One window for ever: what each key has come to, said again when it has changed.

use std::sync::Arc;

use datafusion_common::Result;
use datafusion_common::arrow::array::Int64Array;

use super::aggregates::{Aggregates, Evaluated};
use super::aggregation::{Closed, Windows};
use super::firings::{Due, Firing};
use super::groups::{Groups, hashes};
use super::parts::{Part, Parts};
use super::store::Store;

/// All keys since the beginning.
#[derive(Debug)]
pub(super) struct Totals {
    plan: Arc<Aggregates>,
    /// What came since the last results.
    live: Groups,
    parts: Parts,
}

impl Totals {
    pub(super) fn new(plan: &Arc<Aggregates>) -> Result<Self> {
        Ok(Self { plan: plan.clone(), live: Groups::new(plan)?, parts: Parts::default() })
    }
}

impl Windows for Totals {
    fn late_before(&self, _watermark: i64) -> i64 {
        i64::MIN
    }

    fn push(&mut self, rows: &Evaluated, _times: &Int64Array) -> Result<()> {
        self.live.update(rows)
    }

    fn fire(&mut self, _due: &Due, store: &mut Store) -> Result<Vec<Closed>> {
        if self.live.is_empty() {
            return Ok(Vec::new());
        }
        let changed = std::mem::replace(&mut self.live, Groups::new(&self.plan)?).seal()?;
        let mut groups = Groups::new(&self.plan)?;
        groups.merge(&changed)?;
        let count = groups.len();
        let known = hashes(&changed.columns()[..self.plan.keys()], changed.num_rows())?.into_iter().collect();
        for part in self.parts.iter() {
            groups.merge_known(&store.read(part)?, count, &known)?;
        }
        let results = groups.finish_first(count)?;
        self.parts.push(store.add(changed));
        self.parts.compact(&self.plan, store)?;
        Ok(vec![Closed::of(Firing::OnTime, 0, 0, results)])
    }

    fn seal(&mut self, _store: &mut Store) -> Result<()> {
        // What is live has no result yet.
        Ok(())
    }

    fn parts(&mut self) -> Box<dyn Iterator<Item = (i64, &mut Part)> + '_> {
        Box::new(self.parts.iter_mut().map(|part| (0, part)))
    }

    fn restore(&mut self, _slice: i64, part: Part) -> Result<()> {
        self.parts.push(part);
        Ok(())
    }

    fn bytes(&self) -> usize {
        self.live.bytes() + self.parts.held()
    }
}
