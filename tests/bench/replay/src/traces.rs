//! Traces made of fixed seeds: what is asked for, cut into blocks as a node holds them. The same numbers on every
//! machine.

/// The size of a block; the last one of an object is shorter.
const BLOCK: u64 = 1 << 20;
const KIB: u64 = 1 << 10;

/// What is asked for, in order.
pub(crate) struct Trace {
    pub(crate) name: &'static str,
    /// Bytes of each block. A block is named by its place here; neighbours of an object are neighbours here.
    pub(crate) sizes: Vec<u32>,
    /// The blocks that are asked for.
    blocks: Vec<u32>,
    /// For each request, where its blocks end.
    ends: Vec<u32>,
}

impl Trace {
    fn new(name: &'static str) -> Self {
        Self {
            name,
            sizes: vec![],
            blocks: vec![],
            ends: vec![],
        }
    }

    /// Each request's blocks.
    pub(crate) fn requests(&self) -> impl Iterator<Item = &[u32]> {
        let starts = std::iter::once(0).chain(self.ends.iter().copied());
        starts
            .zip(&self.ends)
            .map(|(from, to)| &self.blocks[from as usize..*to as usize])
    }

    /// Bytes of all that is asked for, each counted once.
    pub(crate) fn footprint(&self) -> u64 {
        let mut asked = vec![false; self.sizes.len()];
        self.blocks
            .iter()
            .filter(|block| !std::mem::replace(&mut asked[**block as usize], true))
            .map(|block| u64::from(self.sizes[*block as usize]))
            .sum()
    }

    /// An object of so many bytes.
    fn object(&mut self, bytes: u64) -> Object {
        let first = self.sizes.len();
        let whole = usize::try_from(bytes / BLOCK).expect("objects are no larger than 1 GiB");
        self.sizes.extend(std::iter::repeat_n(1 << 20, whole));
        if let Some(rest) = u32::try_from(bytes % BLOCK).ok().filter(|rest| *rest > 0) {
            self.sizes.push(rest);
        }
        Object(short(first), short(self.sizes.len()))
    }

    fn objects(&mut self, random: &mut Random, count: u32) -> Vec<Object> {
        (0..count).map(|_| self.object(random.size())).collect()
    }

    /// A request for all of an object.
    fn ask(&mut self, object: Object) {
        self.blocks.extend(object.0..object.1);
        self.ends.push(short(self.blocks.len()));
    }

    /// A request for a range of an object, in bytes.
    fn ask_range(&mut self, object: Object, from: u64, to: u64) {
        let (first, last) = (from / BLOCK, (to - 1) / BLOCK);
        let at = |block: u64| object.0 + u32::try_from(block).expect("a block of an object");
        self.ask(Object(at(first), at(last) + 1));
    }
}

/// The blocks of an object: the first, and the one after the last.
#[derive(Clone, Copy)]
struct Object(u32, u32);

fn short(place: usize) -> u32 {
    u32::try_from(place).expect("a trace has fewer than 2^32 blocks")
}

/// All traces, of so many objects and requests, more or less.
pub(crate) fn all(objects: u32, requests: u32) -> Vec<Trace> {
    vec![
        zipf("zipf 0.8", 0.8, objects, requests),
        zipf("zipf 1.0", 1.0, objects, requests),
        scans("zipf 0.8, once-only and scans", 0.8, objects, requests),
        scans("zipf 1.0, once-only and scans", 1.0, objects, requests),
        loops(objects, requests),
        churn(objects, requests),
        frames(objects / 100, requests / 4),
    ]
}

/// Objects of 64 KiB (median; lognormal up to 1 GiB) whose popularity falls with their rank to the power of `exponent`.
fn zipf(name: &'static str, exponent: f64, objects: u32, requests: u32) -> Trace {
    let (mut random, mut trace) = (Random(1), Trace::new(name));
    let (catalogue, ranks) = (
        trace.objects(&mut random, objects),
        Zipf::new(objects, exponent),
    );
    for _ in 0..requests {
        trace.ask(catalogue[ranks.draw(&mut random)]);
    }
    trace
}

/// The same; three of ten requests are for something that is never asked for again, and at each tenth all objects are
/// read once, in order.
fn scans(name: &'static str, exponent: f64, objects: u32, requests: u32) -> Trace {
    let (mut random, mut trace) = (Random(2), Trace::new(name));
    let (catalogue, ranks) = (
        trace.objects(&mut random, objects),
        Zipf::new(objects, exponent),
    );
    for i in 0..requests {
        if random.below(10) < 3 {
            let size = random.size();
            let once = trace.object(size);
            trace.ask(once);
        } else {
            trace.ask(catalogue[ranks.draw(&mut random)]);
        }
        if (i + 1) % (requests / 10) == 0 {
            for object in &catalogue {
                trace.ask(*object);
            }
        }
    }
    trace
}

/// Sets of 1.1, 5.5 and 11 % of the objects, each read around and around: slightly larger than caches of 1, 5 and 10 %.
/// Then all objects once. All of them have one size, so that a set is as large as it should be.
fn loops(objects: u32, requests: u32) -> Trace {
    let mut trace = Trace::new("loops slightly larger than the cache");
    let catalogue: Vec<_> = (0..objects).map(|_| trace.object(256 * KIB)).collect();
    let mut from = 0;
    for per_mille in [11, 55, 110] {
        let length = objects as usize * per_mille / 1000;
        let around = catalogue[from..from + length].iter().cycle();
        for object in around.take(requests as usize / 3) {
            trace.ask(*object);
        }
        from += length;
    }
    for object in catalogue {
        trace.ask(object);
    }
    trace
}

/// Zipf 0.9; at each tenth of the requests, two of three objects of the most popular tenth change places with others.
fn churn(objects: u32, requests: u32) -> Trace {
    let (mut random, mut trace) = (Random(4), Trace::new("churn"));
    let (mut order, ranks) = (trace.objects(&mut random, objects), Zipf::new(objects, 0.9));
    let top = objects as usize / 10;
    for i in 0..requests {
        trace.ask(order[ranks.draw(&mut random)]);
        if (i + 1) % (requests / 10) == 0 {
            for rank in (0..top).filter(|rank| rank % 3 != 0) {
                let other = top + random.below(order.len() - top);
                order.swap(rank, other);
            }
        }
    }
    trace
}

/// Files of a table, in row groups of columns of 1 to 8 MiB. A query picks a file (Zipf 0.9), reads its footer, and
/// then one to four columns (Zipf 1.0, the same ones favoured in each file) of each row group.
fn frames(files: u32, requests: u32) -> Trace {
    const COLUMNS: u32 = 16;
    const FOOTER: u64 = 64 * KIB;
    let (mut random, mut trace) = (Random(5), Trace::new("data frames"));
    let widths: Vec<u64> = (0..COLUMNS)
        .map(|_| (1024 + random.below(7 * 1024 + 1) as u64) * KIB)
        .collect();
    let group: u64 = widths.iter().sum();
    let files: Vec<_> = (0..files.max(20))
        .map(|_| {
            let groups = 1 + random.below(4) as u64;
            (trace.object(groups * group + FOOTER), groups)
        })
        .collect();
    let (by_rank, favoured) = (Zipf::new(short(files.len()), 0.9), Zipf::new(COLUMNS, 1.0));
    while trace.ends.len() < requests as usize {
        let (file, groups) = files[by_rank.draw(&mut random)];
        trace.ask_range(file, groups * group, groups * group + FOOTER);
        for _ in 0..=random.below(4) {
            let column = favoured.draw(&mut random);
            let at: u64 = widths[..column].iter().sum();
            for row in 0..groups {
                let from = row * group + at;
                trace.ask_range(file, from, from + widths[column]);
            }
        }
    }
    trace
}

/// Ranks, drawn in proportion to their power. The weights are whole numbers, so that no machine rounds a sum otherwise.
struct Zipf(Vec<u64>);

impl Zipf {
    fn new(ranks: u32, exponent: f64) -> Self {
        let mut sum = 0;
        let weights =
            (1..=ranks).map(|rank| whole(f64::from(rank).powf(-exponent) * 2f64.powi(40)));
        Self(
            weights
                .map(|weight| {
                    sum += weight;
                    sum
                })
                .collect(),
        )
    }

    fn draw(&self, random: &mut Random) -> usize {
        let sum = *self.0.last().expect("there are ranks");
        let drawn = (u128::from(random.next()) * u128::from(sum)) >> 64;
        self.0.partition_point(|edge| u128::from(*edge) <= drawn)
    }
}

/// SplitMix64.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    fn below(&mut self, end: usize) -> usize {
        let drawn = (u128::from(self.next()) * end as u128) >> 64;
        usize::try_from(drawn).expect("it is below `end`")
    }

    /// Between 0 and 1, neither of them.
    fn unit(&mut self) -> f64 {
        (f64::from(u32::try_from(self.next() >> 32).expect("half of it")) + 0.5) / 2f64.powi(32)
    }

    /// Bytes of an object: lognormal around 64 KiB, whole KiB, one in a million near 1 GiB.
    fn size(&mut self) -> u64 {
        let (radius, angle) = (self.unit(), self.unit());
        let normal = (-2.0 * radius.ln()).sqrt() * (std::f64::consts::TAU * angle).cos();
        whole((64.0 * (2.0 * normal).exp()).round()).clamp(1, 1 << 20) * KIB
    }
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "weights and sizes are positive, and far below 2^53"
)]
fn whole(number: f64) -> u64 {
    number as u64
}
