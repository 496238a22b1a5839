pub(super) const COLOURS: &str = "";
pub(super) struct Canvas;
impl Canvas {
    pub(super) fn finish(self, _t: &str, _c: &str) -> String {
        String::new()
    }
}
