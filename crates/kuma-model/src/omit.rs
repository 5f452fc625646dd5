//! Which fields do not appear in JSON: those with the zero value of their type, as in proto3's JSON.

pub(crate) fn is_false(value: &bool) -> bool {
    !value
}

pub(crate) fn is_zero(value: &u32) -> bool {
    *value == 0
}
