"""`jobc report`: the page stands alone, tells the truth, survives hostile text, and works in a browser, also for ten thousand
instances. The browser's part is left out, with a line that says so, where there is no Chromium (`./dev test --full` installs it)."""
import base64
import hashlib
import html.parser
import json
import os
import re
import sys
import unittest

import browser
from story import Story, wait_until

HOSTILE = r"""
secret token = env("REPORT_TOKEN")
job fetch { for i in range(4) key "part-~{i}" run = ["true"] timeout { run = 1m } }
job align {
  for i in range(4) key "part-~{i}" after = [fetch] on_error = continue retry { max_attempts = 2, on = [exit] } timeout { run = 1m } env { TOKEN = token }
  script = <<~SH
    if [ "$JOB_KEY" = part-2 ]; then
      printf 'first line\n</script><script>document.title = "taken"</script>\n\033[31mred\033[0m <img src=x onerror=alert(1)> & \342\200\256evil\n' >&2
      echo "the token is $TOKEN" >&2
      exit 3
    fi
  SH
}
job weak { on_error = ignore run = ["sh", "-c", "echo not so bad >&2; exit 9"] timeout { run = 1m } }
params { full: Bool = false }
job guarded { when = params.full run = ["true"] timeout { run = 1m } }
job merge { after = [align] run = ["true"] timeout { run = 1m } }
check fine { after = [fetch] require 1 > 0 }
finally tidy { run = ["true"] }
"""
TOKEN = "s3cr3t-value-of-the-token"


class Page(html.parser.HTMLParser):
    """What a page holds: texts by element, all links and sources, inline styles and scripts, ids."""

    VOID = {"meta", "link", "br", "img", "input", "col", "hr"}

    def __init__(self, text):
        super().__init__(convert_charrefs=True)
        self.stack, self.text, self.attributes, self.ids, self.elements, self.raw = [], "", [], [], [], {}
        self.feed(text)
        self.close()
        assert not self.stack, f"not closed: {self.stack}"

    def handle_starttag(self, tag, attributes):
        self.elements.append((tag, dict(attributes)))
        self.attributes += attributes
        self.ids += [value for name, value in attributes if name == "id"]
        if tag not in self.VOID:
            self.stack.append(tag)

    def handle_startendtag(self, tag, attributes):
        self.elements.append((tag, dict(attributes)))
        self.attributes += attributes

    def handle_endtag(self, tag):
        assert self.stack and self.stack[-1] == tag, f"</{tag}> closes {self.stack[-3:]}"
        self.stack.pop()

    def handle_data(self, data):
        if self.stack and self.stack[-1] in ("script", "style"):
            self.raw.setdefault(self.stack[-1], []).append(data)
        else:
            self.text += data


class Report(Story):
    def hostile(self):
        done = self.run_job(HOSTILE, code=10, env={"REPORT_TOKEN": TOKEN})
        self.assertNotIn(TOKEN, done.err)
        self.jobc("report", "-o", "report.html")
        return (self.at / "report.html").read_text()

    def many(self, count):
        """The report of a run of `count` instances; a tenth of them are skipped."""
        self.write(f'edition = 1\njob a {{ for i in range({count}) key "~{{i}}" run = ["true"] when = i % 10 != 0 timeout {{ run = 1m }} }}\n')
        self.jobc("run", "a.job", "--durability", "normal", timeout=280)
        self.jobc("report", "-o", f"{count}.html")
        return self.at / f"{count}.html"

    def check(self, page):
        self.assertEqual(page.complaints, [])
        self.assertEqual([url for url in page.requests if not url.startswith("file:")], [], "nothing is fetched")
        self.assertEqual(page.evaluate("document.documentElement.dataset.ready"), "yes", "the script ran to its end")


class Text(Report):
    def test_one_page_that_needs_nothing(self):
        text = self.hostile()
        page = Page(text)
        self.assertEqual(len(page.ids), len(set(page.ids)))
        for name, value in page.attributes:
            self.assertNotIn(name, ("src", "href", "style", "srcset", "action"), f"{name}={value}")
            self.assertFalse(name.startswith("on"), name)
        self.assertEqual(set(re.findall(r"https?://[^\s\"]*|url\(.{6}|@import", text)), {"http://www.w3.org/2000/svg", "url(#arrow"})
        policy, = [attributes["content"] for tag, attributes in page.elements if tag == "meta" and attributes.get("http-equiv") == "Content-Security-Policy"]
        self.assertTrue(policy.startswith("default-src 'none'; "))
        digest = lambda data: "'sha256-" + base64.b64encode(hashlib.sha256(data.encode()).digest()).decode() + "'"
        self.assertIn(f"style-src {digest(page.raw['style'][0])};", policy)
        self.assertEqual(len(page.raw["script"]), 2, "the data and one script")
        self.assertIn(f"script-src {digest(page.raw['script'][1])};", policy)

    def test_it_says_what_happened_without_its_script(self):
        page = Page(self.hostile())
        self.assertSays(page.text, "failed", 'align["part-2"]', "exit 3", "attempt 2 of 2", "first line", "weak", "exit 9, ignored", "not so bad", "jobc logs",
                        "exit code 10", "1 failed", "1 failed, ignored", "1 skipped", "1 blocked", "at most", "declared at a.job:")
        self.assertNotIn(TOKEN, json.dumps(page.raw["script"][0]) + page.text)
        self.assertIn("the token is ***", page.text)
        self.assertIn('</script><script>document.title = "taken"</script>', page.text, "the text of the job, as text")
        self.assertNotIn("\x1b", page.text)
        self.assertNotIn("\u202e", page.text)

    def test_data(self):
        self.hostile()
        data = self.jobc("report", "--json").json
        self.assertEqual((data["schema"], data["status"], data["instances"]), ("jobc.report/1", "failed", 4 + 4 + 1 + 1 + 1 + 1 + 1))
        jobs = {job["name"]: job for job in data["jobs"]}
        self.assertEqual(jobs["align"]["counts"], {"failed": 1, "succeeded": 3})
        self.assertEqual(jobs["align"]["attempts"], 5)
        names = [job["name"] for job in data["jobs"]]
        self.assertEqual([names[at] for at, weak in jobs["align"]["needs"]], ["fetch"])
        rows = {row[1]: row for row in data["rows"]}
        self.assertEqual(len(rows), data["instances"])
        failed = rows['align["part-2"]']
        self.assertEqual(failed[2], "failed")
        for number, (attempt, ready, start, end, outcome, what, cpu, memory) in enumerate(failed[4]):
            self.assertEqual((attempt, outcome, what), (number + 1, "failed", "exit 3"))
            self.assertTrue(0 <= ready <= start <= end <= data["elapsed"], failed)
        self.assertEqual(rows["guarded"][2:], ["skipped", "its `when` is false", []])

    def test_runs_that_go_on_or_were_killed(self):
        self.write('edition = 1\njob a { run = ["sh", "-c", "touch @FLAGS@/up; exec sleep 60"] }\njob b { after = [a] run = ["true"] }\n'.replace("@FLAGS@", str(self.flags)))
        process = self.start("run", "a.job")
        self.wait_for("up")
        wait_until(lambda: self.jobc("report", "--json").json["rows"][0][4][0][2] >= 0, what="the start in the journal")
        self.assertSays(Page(self.jobc("report").out).text, "running", "0 of 2", "still running")
        process.kill()
        process.wait()
        self.assertSays(Page(self.jobc("report").out).text, "crashed", "ended without a word", "1 lost")
        self.assertIn("lost", [row[2] for row in self.jobc("report", "--json").json["rows"]])

    def test_where_it_goes(self):
        self.run_job('job a { run = ["true"] }')
        self.jobc("report", "-o", "one.html")
        self.assertEqual(Page((self.at / "one.html").read_text()).elements[0][0], "html")
        self.assertEqual(Page(self.jobc("report", "-o", "-").out).elements[0][0], "html")
        self.assertSays(self.jobc("report", "-o", "no/such/place.html", code=15).err, "cannot write `no/such/place.html`: No such file or directory")
        self.assertSays(self.jobc("report", "nonsense", code=2).err, "nonsense")
        self.assertEqual([name for name in os.listdir(self.at) if name.endswith(".new")], [])


@unittest.skipUnless(browser.PROGRAM, "there is no Chromium here; ./dev test --full installs it")
class InChromium(Report):
    def test_hostile_text_does_nothing(self):
        self.hostile()
        for dark in (False, True):
            with browser.Browser(dark=dark) as page:
                page.open(self.at / "report.html")
                self.check(page)
                self.assertNotIn("taken", page.evaluate("document.title"))
                self.assertEqual(page.evaluate("document.images.length"), 0)
                self.assertEqual(page.evaluate("document.querySelectorAll('#graph .node').length"), 7)
                self.assertEqual(page.evaluate("document.querySelectorAll('#graph .edge').length"), 3)
                self.assertEqual(page.evaluate("document.querySelectorAll('.needs-script[hidden]').length"), 0)
                shade = page.evaluate("getComputedStyle(document.body).backgroundColor.match(/\\d+/g).slice(0, 3).reduce((a, b) => a + Number(b), 0)")
                self.assertTrue(shade < 150 if dark else shade > 600, shade)
                page.evaluate("document.getElementById('theme').click()")
                other = page.evaluate("getComputedStyle(document.body).backgroundColor.match(/\\d+/g).slice(0, 3).reduce((a, b) => a + Number(b), 0)")
                self.assertTrue(other > 600 if dark else other < 150, "the button changes the colours")
                self.assertFalse(page.evaluate("document.documentElement.scrollWidth > innerWidth"), "nothing sticks out")
                self.check(page)

    def test_keyboard_and_search(self):
        self.hostile()
        with browser.Browser() as page:
            page.open(self.at / "report.html")
            page.evaluate("document.querySelector('#timeline .viewport').focus()")
            page.key("End")
            said = page.evaluate("document.getElementById('timeline-live').textContent")
            self.assertIn("tidy: succeeded", said)
            self.assertIn("attempt 1: succeeded, ran ", said)
            page.evaluate("const s = document.getElementById('instances-search'); s.value = 'part-2'; s.dispatchEvent(new Event('input'))")
            self.assertEqual(page.evaluate("document.getElementById('instances-count').textContent"), "3 of 13", "its message counts too")
            page.evaluate("const f = document.getElementById('instances-state'); f.value = 'failed'; f.dispatchEvent(new Event('change'))")
            self.assertEqual(page.evaluate("[...document.querySelectorAll('#grid tbody td.address')].map((c) => c.textContent)"), ['align["part-2"]'])
            # Something is drawn: not all pixels of the timeline are the same.
            self.assertGreater(page.evaluate("(() => { const c = document.querySelector('#timeline canvas'), d = c.getContext('2d').getImageData(0, 0, c.width, c.height).data; const seen = new Set(); "
                                             "for (let i = 0; i < d.length; i += 4) seen.add(d[i] << 16 | d[i + 1] << 8 | d[i + 2]); return seen.size })()"), 10)
            self.check(page)


@unittest.skipUnless(browser.PROGRAM, "there is no Chromium here; ./dev test --full installs it")
class Large(Report):
    def test_ten_thousand_instances_do_not_freeze_it(self):
        small = self.many(100)
        with browser.Browser() as page:
            page.open(small)  # the browser itself becomes warm
            base = min(page.open(small) for _ in range(3))
        large = self.many(10_000)
        with browser.Browser() as page:
            page.open(small)
            took = min(page.open(large) for _ in range(2))
            self.check(page)
            self.assertEqual(page.evaluate("document.getElementById('instances-count').textContent"), "10000 of 10000")
            self.assertLess(page.evaluate("document.querySelectorAll('*').length"), 2000, "only what is visible is drawn")
            # To scroll to the end, to sort and to search take moments, each of them.
            slowest = page.evaluate("""(async () => {
              const frame = () => new Promise(requestAnimationFrame), grid = document.getElementById('grid'), view = document.querySelector('#timeline .viewport'), search = document.getElementById('instances-search');
              let slowest = 0;
              for (const act of [() => { grid.scrollTop = grid.scrollHeight; }, () => { view.scrollTop = view.scrollHeight; }, () => { grid.querySelectorAll('th button')[5].click(); },
                                 () => { search.value = '77'; search.dispatchEvent(new Event('input')); }, () => { document.getElementById('timeline-in').click(); }]) {
                const begin = performance.now(); act(); await frame(); await frame(); slowest = Math.max(slowest, performance.now() - begin);
              }
              return slowest })()""")
            self.check(page)
        print(f"100 instances: {base * 1000:.0f} ms to load; 10000: {took * 1000:.0f} ms; slowest step {slowest:.0f} ms", file=sys.stderr)
        self.assertLess(took, 10 * base + 1, "a hundred times the instances")
        self.assertLess(slowest, 1000)


if __name__ == "__main__":
    if not browser.PROGRAM:
        print("report_test: there is no Chromium here, so the page is not looked at in a browser; ./dev test --full installs it", file=sys.stderr)
    unittest.main()
