//! `imgbuild page`, as typed.

use std::path::PathBuf;

use clap::Args;

use super::Common;
use super::fleet::ReceiptsFrom;

const PAGE_HELP: &str = "\
Writes HTML for people who ask what runs where: index.html with the environments side by side, a
page of each released image, and a page of each two neighbouring releases or environments. No script,
nothing from elsewhere; any web server, or a browser alone, shows it.

DIR is one that is empty, not there yet, or written by this command before: then only what changed is
written, and what is gone is removed. Readers never see half a page.

The same store, keys and environments are the same bytes. What has run out is told by this machine's
clock, or by SOURCE_DATE_EPOCH where that is set.

With --receipts, or IMGBUILD_RECEIPTS, there are pages about nodes as well: which images run where, by what
`imgbuild fleet status` says of them. Each of these environments must be vouched for (`imgbuild env trust`).

With --serve, the pages are served over HTTP until Ctrl-C, to programs of this machine at
127.0.0.1:8080 unless an ADDRESS is given; without --out, from a directory that is removed then.

Exit code 3: an environment cannot be believed, and nothing is written; or an image is damaged, which
its page says.

Examples: imgbuild page --out /srv/www/images
          imgbuild page --serve
          imgbuild page --serve=127.0.0.1:0 --env staging --env prod
          imgbuild page --out /srv/www/images --receipts /srv/receipts";

/// `page`.
#[derive(Args, Debug)]
#[command(after_help = PAGE_HELP)]
pub struct PageArgs {
    /// The directory to write to
    #[arg(short, long, value_name = "DIR", required_unless_present = "serve")]
    pub out: Option<PathBuf>,
    /// An environment, in the order of the columns; repeatable, all when left out
    #[arg(long, value_name = "ENV")]
    pub env: Vec<String>,
    /// Show the pages to a browser
    #[arg(
        long,
        value_name = "ADDRESS",
        num_args = 0..=1,
        require_equals = true,
        default_missing_value = "127.0.0.1:8080"
    )]
    pub serve: Option<String>,
    /// Hours without a receipt after which a node is overdue
    #[arg(long, value_name = "HOURS", default_value_t = 26)]
    pub overdue: u32,
    /// Where receipts are.
    #[command(flatten)]
    pub from: ReceiptsFrom,
    /// What every command takes.
    #[command(flatten)]
    pub common: Common,
}
