use crate::mem::frame::RootPage;
use crate::mem::pool::Pool;
pub struct Vp {
    run: RootPage,
}
impl Vp {
    pub fn dismantle(self, _pool: &mut Pool, _epoch: u64) -> RootPage {
        self.run
    }
}
