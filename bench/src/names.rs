//! Names and versions as numbers: a thousand clients hold the same few thousand strings.

use std::sync::{Arc, PoisonError, RwLock};

use rustc_hash::FxHashMap;

/// A string that is kept in [`Names`].
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub(crate) struct Id(u32);

/// Every string that was ever seen.
#[derive(Default)]
pub(crate) struct Names {
    table: RwLock<Table>,
}

#[derive(Default)]
struct Table {
    ids: FxHashMap<Arc<str>, Id>,
    strings: Vec<Arc<str>>,
}

impl Names {
    /// The number of a string.
    pub(crate) fn id(&self, text: &str) -> Id {
        if let Some(&id) = self.table.read().unwrap_or_else(PoisonError::into_inner).ids.get(text) {
            return id;
        }
        let mut table = self.table.write().unwrap_or_else(PoisonError::into_inner);
        if let Some(&id) = table.ids.get(text) {
            return id;
        }
        let id = Id(u32::try_from(table.strings.len()).expect("fewer than four billion names"));
        let text: Arc<str> = Arc::from(text);
        table.strings.push(text.clone());
        table.ids.insert(text, id);
        id
    }

    /// The string of a number.
    pub(crate) fn text(&self, id: Id) -> Arc<str> {
        self.table.read().unwrap_or_else(PoisonError::into_inner).strings[id.0 as usize].clone()
    }
}
