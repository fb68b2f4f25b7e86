//! Reads uploaded CSV files row by row into their campaigns, or into a user's prospects. A file is read by one process at a time, in bounded memory; after a
//! crash another goes on behind the last row that has its verdict, and rows it repeats keep their calls (tests/it/campaigns.rs).

use std::borrow::Cow;
use std::cell::Cell;
use std::io::Read;
use std::rc::Rc;
use std::time::Duration;

use csv::{ByteRecord, ReaderBuilder, WriterBuilder};
use serde_json::value::to_raw_value;
use sqlx::PgPool;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::db::doorbell::Doorbell;
use crate::db::fault::{self, caught, within};
use crate::domain::failpoint;
use crate::domain::ids::{CallId, CampaignId, ProspectId, UserId, grown_from};
use crate::domain::raw_json::Fields;
use crate::queue;
use crate::queue::recruit::{Into, Reason, Recruit, recruit};
use crate::store::uploads::{self, Progress, Taken};
use crate::store::usage;
use crate::store::{Named, campaigns};

/// Rows of one insert; others get their turn in between.
const CHUNK: usize = 1000;
/// Chunks and pieces that may be read ahead.
const AHEAD: usize = 2;
/// Bytes of the rows of one insert, about: wide rows come in fewer.
const CHUNK_BYTES: usize = 4 << 20;
/// A row that is longer ends the file: most likely a quote is not closed.
const RECORD_BYTES_MAX: usize = 64 << 10;
/// Chunks until another upload gets its turn.
const CHUNKS_A_TURN: i64 = 200;
/// A file that brings its reader down so often is given up.
const TAKES_MAX: i32 = 5;
const COLUMNS_MAX: usize = 100;
const HEADER_BYTES_MAX: usize = 64 * 1024;

/// How long things may take.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// A reader that has stored no verdicts for so long is taken for dead.
    pub lease_secs: f64,
    /// A statement that has not answered for so long never will.
    pub patience: Duration,
}

/// Reads uploads until `stop`, looking for new ones every `tick`.
pub async fn run(pool: PgPool, doorbell: Doorbell, tick: Duration, limits: Limits, stop: CancellationToken) {
    while !stop.is_cancelled() {
        let read = tokio::select! {
            () = stop.cancelled() => return,
            // A file that makes its reader panic is taken up again, and given up after some times.
            read = caught("reading an upload", read_next(&pool, &doorbell, limits)) => read,
        };
        match read {
            Ok(true) => continue,
            Ok(false) => {}
            Err(error) => tracing::warn!(%error, "an upload could not be read on; it is taken up again"),
        }
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(tick) => {}
        }
    }
}

/// Reads an upload nobody reads to its end; false: there was none.
///
/// # Errors
/// Postgres is away; the upload is taken up again behind its last verdict.
pub async fn read_next(pool: &PgPool, doorbell: &Doorbell, limits: Limits) -> sqlx::Result<bool> {
    let patience = limits.patience;
    let Some(taken) = within(patience, uploads::take(pool, limits.lease_secs)).await? else {
        return Ok(false);
    };
    let Some(target) = within(patience, target_of(pool, taken)).await? else {
        within(patience, uploads::finish(pool, taken.id, Some("the campaign is canceled or deleted"))).await?;
        return Ok(true);
    };
    if taken.takes > TAKES_MAX {
        let error = "it could not be read, time and again; the logs say why";
        tracing::error!(upload.id = %taken.id, takes = taken.takes, "an upload is given up");
        within(patience, uploads::finish(pool, taken.id, Some(error))).await?;
        return Ok(true);
    }
    let outcome = match read(pool, doorbell, taken, &target, limits).await {
        Err(error) if !fault::is_of_the_values(&error) && !fault::is_of_the_statement(&error) => {
            within(patience, uploads::put_back(pool, taken.id)).await?;
            return Err(error);
        }
        read => read?,
    };
    if let Some(outcome) = outcome {
        let error = outcome.as_ref().err().map(String::as_str);
        within(patience, uploads::finish(pool, taken.id, error)).await?;
        tracing::info!(upload.id = %taken.id, error = outcome.err(), "an upload was read");
    }
    Ok(true)
}

/// What the rows of a file become.
enum Target {
    Calls(Into),
    Prospects(UserId),
}

/// None: the campaign takes no numbers any more.
async fn target_of(pool: &PgPool, taken: Taken) -> sqlx::Result<Option<Target>> {
    let Some(campaign) = taken.campaign else { return Ok(Some(Target::Prospects(taken.user))) };
    let named = Named { id: Some(campaign.0), external_id: None };
    let campaign = campaigns::find(pool, &named, None).await?.into_iter().next();
    let campaign = campaign.filter(|campaign| campaign.canceled_at.is_none());
    Ok(campaign.map(|campaign| {
        let (id, user) = (CampaignId(campaign.id), UserId(campaign.user_id));
        Target::Calls(Into::new(id, user, campaign.script_id, campaign.max_retries))
    }))
}

/// Reads and enqueues; none: another process has taken it over.
async fn read(
    pool: &PgPool,
    doorbell: &Doorbell,
    taken: Taken,
    target: &Target,
    limits: Limits,
) -> sqlx::Result<Option<Result<(), String>>> {
    let patience = limits.patience;
    let (pieces, received) = mpsc::channel(AHEAD);
    let (chunks, mut parsed) = mpsc::channel(AHEAD);
    let feeding = feed(pool.clone(), taken, pieces, patience);
    let parsing = tokio::task::spawn_blocking(move || parse(received, &chunks));
    // Owns its end of the channel: when it stops early, parser and feeder stop too.
    let enqueuing = async move {
        let (mut rows_done, mut chunks) = (0, 0);
        while let Some(chunk) = parsed.recv().await {
            let rows = i64::try_from(chunk.rows.len()).unwrap_or(i64::MAX);
            if rows_done + rows > taken.rows_done {
                // A chunk holds the same rows whoever reads it, so what was done before ends with a chunk.
                let progress = within(patience * 3, enqueue(pool, taken, target, rows_done, chunk)).await?;
                failpoint::hit("upload.before_verdicts");
                let advancing = uploads::advance(pool, taken.id, &progress, limits.lease_secs);
                if !within(patience, advancing).await? {
                    return Ok::<bool, sqlx::Error>(false);
                }
                failpoint::hit("upload.after_verdicts");
                doorbell.ring();
                chunks += 1;
                if chunks == CHUNKS_A_TURN {
                    within(patience, uploads::give_back(pool, taken.id)).await?;
                    return Ok(false);
                }
            }
            rows_done += rows;
        }
        Ok(true)
    };
    let (fed, still_ours) = tokio::join!(feeding, enqueuing);
    fed?;
    if !still_ours? {
        return Ok(None);
    }
    let outcome = parsing.await.unwrap_or_else(|_| Err("the file could not be read".to_owned()));
    Ok(Some(outcome))
}

/// Hands on the pieces of the body, in order.
async fn feed(pool: PgPool, taken: Taken, pieces: mpsc::Sender<Piece>, patience: Duration) -> sqlx::Result<()> {
    for nth in 0.. {
        match within(patience, uploads::part(&pool, taken.id, nth)).await {
            Ok(None) => break,
            Ok(Some(piece)) => {
                if pieces.send(Ok(piece)).await.is_err() {
                    break;
                }
            }
            Err(error) => {
                // The parser must not take the break for the end of the file: a number cut off may be somebody else's.
                let _ = pieces.send(Err(BrokenOff)).await;
                return Err(error);
            }
        }
    }
    Ok(())
}

/// A piece of the file, or that the next cannot be had now: what came so far is not all.
type Piece = Result<Vec<u8>, BrokenOff>;

#[derive(Clone, Copy, Debug)]
struct BrokenOff;

const BROKEN_OFF: &str = "the file breaks off here for now";

/// Verdicts for rows, in their order; a row that Postgres will not take is found by halves and spoils itself alone.
async fn admit(
    pool: &PgPool,
    target: &Target,
    rows: Vec<Recruit>,
    first: usize,
    id_of: &(impl Fn(usize) -> Uuid + Sync),
) -> sqlx::Result<Vec<Result<Uuid, Reason>>> {
    let count = rows.len();
    let tried = match target {
        Target::Calls(into) => {
            let verdicts = recruit(pool, into, rows.clone(), |nth| CallId(id_of(first + nth))).await;
            verdicts.map(|verdicts| verdicts.into_iter().map(|verdict| verdict.map(|call| call.0)).collect())
        }
        Target::Prospects(user) => {
            let verdicts = queue::enlist(pool, *user, rows.clone(), |nth| ProspectId(id_of(first + nth))).await;
            verdicts.map(|verdicts| verdicts.into_iter().map(|verdict| verdict.map(|prospect| prospect.0)).collect())
        }
    };
    match tried {
        Err(error) if fault::is_of_the_values(&error) && count > 1 => {
            let mut head = rows;
            let tail = head.split_off(count / 2);
            let mut verdicts = Box::pin(admit(pool, target, head, first, id_of)).await?;
            verdicts.extend(Box::pin(admit(pool, target, tail, first + count / 2, id_of)).await?);
            Ok(verdicts)
        }
        Err(error) if fault::is_of_the_values(&error) => {
            tracing::warn!(%error, "a row of an upload cannot be stored");
            Ok(vec![Err(Reason::Unreadable); count])
        }
        verdicts => verdicts,
    }
}

async fn enqueue(pool: &PgPool, taken: Taken, target: &Target, first: i64, chunk: Chunk) -> sqlx::Result<Progress> {
    let rows = chunk.rows.len();
    let numbers: Vec<String> = chunk.rows.iter().map(|row| row.number.clone()).collect();
    let base = usize::try_from(first).unwrap_or(usize::MAX);
    let id_of = |nth: usize| grown_from(taken.id.0, base + nth + 1);
    let room = match target {
        Target::Calls(_) => usize::try_from(usage::of(pool, taken.user).await?.calls_left()).unwrap_or(usize::MAX),
        Target::Prospects(_) => usize::MAX,
    };
    let mut admitted = chunk.rows;
    let beyond = admitted.split_off(room.min(rows)).len();
    let mut verdicts = admit(pool, target, admitted, 0, &id_of).await?;
    verdicts.extend(std::iter::repeat_n(Err(Reason::QuotaExceeded), beyond));
    let accepted = verdicts.iter().filter(|verdict| verdict.is_ok()).count();
    let mut lines = WriterBuilder::new().from_writer(Vec::new());
    for (nth, (number, verdict)) in numbers.iter().zip(&verdicts).enumerate() {
        let row = (base + nth + 1).to_string();
        let (status, call, reason) = match verdict {
            Ok(call) => ("accepted", call.to_string(), ""),
            Err(reason) => ("rejected", String::new(), reason.as_str()),
        };
        // Writing into memory does not fail.
        let _ = lines.write_record([row.as_str(), &defused(number), status, &call, reason]);
    }
    let text = lines.into_inner().unwrap_or_default();
    Ok(Progress {
        first_row: first,
        verdicts: String::from_utf8(text).unwrap_or_default(),
        rows: i64::try_from(rows).unwrap_or_default(),
        accepted: i64::try_from(accepted).unwrap_or_default(),
        bytes_done: chunk.bytes_done,
    })
}

/// A cell that a spreadsheet shows and does not run (OWASP, CSV injection): what begins like a formula, and is no number, gets an
/// apostrophe before it.
fn defused(cell: &str) -> Cow<'_, str> {
    let is_number = cell.strip_prefix('+').is_some_and(|digits| digits.bytes().all(|byte| byte.is_ascii_digit()));
    if !is_number && cell.starts_with(['=', '+', '-', '@', '\t', '\r']) {
        return Cow::Owned(format!("'{cell}"));
    }
    Cow::Borrowed(cell)
}

/// Rows of a file.
struct Chunk {
    rows: Vec<Recruit>,
    /// How far the file is read behind them.
    bytes_done: i64,
}

/// Bytes the parser takes at once.
const READ_AHEAD: usize = 8 << 10;

/// Reads pieces as one stream of bytes; refuses a record without end.
struct Pieces {
    received: mpsc::Receiver<Piece>,
    current: Vec<u8>,
    read: usize,
    /// Bytes handed out since the last whole record, shared with the parser.
    since_record: Rc<Cell<usize>>,
}

impl Read for Pieces {
    fn read(&mut self, into: &mut [u8]) -> std::io::Result<usize> {
        while self.read >= self.current.len() {
            match self.received.blocking_recv() {
                Some(Ok(piece)) => (self.current, self.read) = (piece, 0),
                Some(Err(BrokenOff)) => return Err(std::io::Error::other(BROKEN_OFF)),
                None => return Ok(0),
            }
        }
        let rest = self.current.get(self.read..).unwrap_or_default();
        let n = rest.len().min(into.len()).min(READ_AHEAD);
        if let (Some(to), Some(from)) = (into.get_mut(..n), rest.get(..n)) {
            to.copy_from_slice(from);
        }
        self.read += n;
        self.since_record.set(self.since_record.get() + n);
        // The parser reads ahead by its buffer.
        if self.since_record.get() > RECORD_BYTES_MAX + 2 * READ_AHEAD {
            return Err(std::io::Error::other(format!("longer than {RECORD_BYTES_MAX} bytes; is a quote not closed?")));
        }
        Ok(n)
    }
}

/// What a column holds.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Column {
    Number,
    Name,
    ExternalId,
    TimeZone,
    Status,
    RescheduledFor,
    Variable(String),
}

/// Rows, in chunks; whoever listens may stop listening.
fn parse(received: mpsc::Receiver<Piece>, chunks: &mpsc::Sender<Chunk>) -> Result<(), String> {
    let since_record = Rc::new(Cell::new(0));
    let mut pieces = Pieces { received, current: Vec::new(), read: 0, since_record: Rc::clone(&since_record) };
    // The header line tells the delimiter: whole, however the body was cut.
    while !pieces.current.contains(&b'\n') && pieces.current.len() < HEADER_BYTES_MAX {
        match pieces.received.blocking_recv() {
            Some(Ok(piece)) => pieces.current.extend(piece),
            Some(Err(BrokenOff)) => return Err(BROKEN_OFF.to_owned()),
            None => break,
        }
    }
    if [b"\xff\xfe".as_slice(), b"\xfe\xff"].iter().any(|mark| pieces.current.starts_with(mark)) {
        return Err("the file is UTF-16: save it as UTF-8".to_owned());
    }
    let bom = if pieces.current.starts_with(b"\xef\xbb\xbf") { 3 } else { 0 };
    pieces.read = bom;
    let delimiter = delimiter_of(pieces.current.get(bom..).unwrap_or_default());
    let mut reader = ReaderBuilder::new()
        .buffer_capacity(READ_AHEAD)
        .delimiter(delimiter)
        .flexible(true)
        .has_headers(false)
        .from_reader(pieces);
    let mut record = ByteRecord::new();
    if !reader.read_byte_record(&mut record).map_err(|error| error.to_string())? {
        return Err("the file is empty".to_owned());
    }
    let columns = columns_of(&record)?;
    let names_bytes = record.as_slice().len();
    let (mut rows, mut bytes, mut nth) = (Vec::with_capacity(CHUNK), 0, 0_u64);
    loop {
        since_record.set(0);
        nth += 1;
        let more = reader.read_byte_record(&mut record).map_err(|error| format!("row {nth}: {error}"))?;
        if more {
            // Each row carries the names of its columns.
            bytes += record.as_slice().len() + names_bytes;
            rows.push(row_of(&columns, &record));
        }
        // The same rows in the same chunks, whoever reads the file.
        if rows.len() == CHUNK || bytes >= CHUNK_BYTES || (!more && !rows.is_empty()) {
            bytes = 0;
            let bytes_done = i64::try_from(reader.position().byte()).unwrap_or(i64::MAX);
            if chunks.blocking_send(Chunk { rows: std::mem::take(&mut rows), bytes_done }).is_err() {
                return Ok(());
            }
        }
        if !more {
            return Ok(());
        }
    }
}

/// Whichever of comma, semicolon and tab the header line has most of.
fn delimiter_of(start: &[u8]) -> u8 {
    let header = start.split(|byte| *byte == b'\n').next().unwrap_or_default();
    let count = |delimiter: u8| header.iter().filter(|byte| **byte == delimiter).count();
    [b',', b';', b'\t'].into_iter().rev().max_by_key(|delimiter| count(*delimiter)).unwrap_or(b',')
}

fn columns_of(header: &ByteRecord) -> Result<Vec<Column>, String> {
    // NUL cannot be stored, in a message either.
    let name_of = |name: &[u8]| String::from_utf8_lossy(name).replace('\0', "\u{fffd}").trim().to_owned();
    let names: Vec<String> = header.iter().map(name_of).collect();
    if names.len() > COLUMNS_MAX {
        return Err(format!("the header line has more than {COLUMNS_MAX} columns"));
    }
    let columns: Vec<Column> = names
        .iter()
        .map(|name| match name.to_lowercase().replace(['_', '-', ' '], "").as_str() {
            "number" | "phone" | "phonenumber" => Column::Number,
            "name" | "prospectname" => Column::Name,
            "externalid" => Column::ExternalId,
            "timezone" => Column::TimeZone,
            "status" => Column::Status,
            "rescheduledfor" => Column::RescheduledFor,
            _ => Column::Variable(name.clone()),
        })
        .collect();
    if columns.contains(&Column::Number) {
        Ok(columns)
    } else {
        Err(format!("the header line needs a column number or phone; it has: {}", names.join(", ")))
    }
}

/// A row as it was given; what is not text has no number, and is rejected.
fn row_of(columns: &[Column], record: &ByteRecord) -> Recruit {
    let mut row = Recruit::default();
    let mut variables = Fields::new();
    for (column, field) in columns.iter().zip(record) {
        let Ok(text) = std::str::from_utf8(field) else {
            return Recruit::default();
        };
        // Excel keeps a leading + by an apostrophe before it; NUL cannot be stored.
        let text = text.trim().trim_start_matches('\'').replace('\0', "");
        match column {
            Column::Number if row.number.is_empty() => row.number = text,
            Column::Number => {}
            Column::Name => row.name = Some(text),
            Column::ExternalId => row.external_id = Some(text),
            Column::TimeZone => row.time_zone = Some(text),
            Column::RescheduledFor => row.rescheduled_for = Some(text),
            Column::Status => {
                // A script may name it all the same.
                if let Ok(text) = to_raw_value(&text) {
                    variables.insert("status".to_owned(), text);
                }
                row.status = Some(text);
            }
            Column::Variable(name) if name.is_empty() || text.is_empty() => {}
            Column::Variable(name) => {
                // A text always becomes JSON.
                if let Ok(text) = to_raw_value(&text) {
                    variables.insert(name.replace('\0', ""), text);
                }
            }
        }
    }
    Recruit { variables, ..row }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    /// Where the database fails in the midst of a file, what was cut there is no row: a number cut off may be somebody else's. (The version
    /// before took the break for the end, and enqueued the half number.)
    #[test]
    fn a_break_is_not_the_end() {
        let (pieces, received) = mpsc::channel(10);
        pieces.try_send(Ok(b"number\n+14155550100\n+1415555".to_vec())).expect("room");
        pieces.try_send(Err(BrokenOff)).expect("room");
        drop(pieces);
        let (chunks, mut parsed) = mpsc::channel(10);
        assert!(parse(received, &chunks).expect_err("it broke off").contains(BROKEN_OFF));
        assert!(parsed.try_recv().is_err(), "rows were handed on");
    }

    fn rows_of(text: &[u8]) -> Result<Vec<Recruit>, String> {
        let (pieces, received) = mpsc::channel(text.len().max(1));
        // Cut anywhere: a piece ends in the middle of a line or a character.
        for piece in text.chunks(7) {
            pieces.try_send(Ok(piece.to_vec())).expect("room");
        }
        drop(pieces);
        let (chunks, mut parsed) = mpsc::channel(100);
        parse(received, &chunks)?;
        drop(chunks);
        let mut rows = Vec::new();
        while let Ok(chunk) = parsed.try_recv() {
            rows.extend(chunk.rows);
        }
        Ok(rows)
    }

    /// As Excel and others write it: byte order mark, semicolons, apostrophes, quotes, CRLF, more columns.
    #[test]
    fn files_are_read_as_they_come() {
        let text = "\u{feff}Phone;Name;Time Zone;city\r\n'+14155550100;\"Jo; \"\"the\"\" One\";America/New_York;Rome\r\n+442079460018;;;\r\n";
        let rows = rows_of(text.as_bytes()).expect("rows");
        assert_eq!(rows.len(), 2);
        assert_eq!(rows[0].number, "+14155550100");
        assert_eq!(rows[0].name.as_deref(), Some("Jo; \"the\" One"));
        assert_eq!(rows[0].time_zone.as_deref(), Some("America/New_York"));
        assert_eq!(json!(rows[0].variables), json!({"city": "Rome"}));
        assert_eq!(rows[1].number, "+442079460018");
    }

    /// What a list says of a person is read, whatever it calls the columns.
    #[test]
    fn a_list_may_say_how_people_stand() {
        let text = "phone,Status,Rescheduled For\n+14155550100,do not call,\n+14155550101,,2026-12-01T10:00:00Z\n";
        let rows = rows_of(text.as_bytes()).expect("rows");
        assert_eq!(rows[0].status.as_deref(), Some("do not call"));
        assert_eq!(rows[1].rescheduled_for.as_deref(), Some("2026-12-01T10:00:00Z"));
        assert!(rows_of(b"\xff\xfep\0h\0").expect_err("UTF-16").contains("UTF-8"));
    }

    /// A verdict shows what was given; opened in a spreadsheet it runs nothing.
    #[test]
    fn cells_are_defused() {
        assert_eq!(defused("=HYPERLINK(\"http://x\")"), "'=HYPERLINK(\"http://x\")");
        assert_eq!(defused("+1+cmd|' /C calc'!A0"), "'+1+cmd|' /C calc'!A0");
        assert_eq!(defused("@SUM(1)"), "'@SUM(1)");
        assert_eq!(defused("+14155550100"), "+14155550100");
    }

    /// A row without end is refused before it fills the memory.
    #[test]
    fn a_quote_that_is_not_closed_ends_the_file() {
        let text = format!("number,name\n+14155550100,Jo\n+14155550101,\"{}", "x".repeat(200_000));
        let error = rows_of(text.as_bytes()).expect_err("no end");
        assert!(error.contains("row 2") && error.contains("quote"), "{error}");
    }

    /// A file that cannot be used says why; a bad row spoils itself alone.
    #[test]
    fn what_cannot_be_read_is_told() {
        assert!(rows_of(b"").expect_err("empty").contains("empty"));
        assert!(rows_of(b"name,city\nJo,Rome\n").expect_err("no number").contains("name, city"));
        let rows = rows_of(b"number\n\xff\xfe\n+14155550100\n").expect("rows");
        assert_eq!(rows.iter().map(|row| row.number.as_str()).collect::<Vec<_>>(), ["", "+14155550100"]);
    }
}
