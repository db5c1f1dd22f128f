// The pure parts of storage: signatures against the examples that AWS publishes, settings, addresses, answers, retries.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <map>

#include "storage/failure.h"
#include "storage/s3_answer.h"
#include "storage/s3_settings.h"
#include "storage/s3_sign.h"
#include "storage/uri.h"
#include "support/sha256.h"

namespace jobc::storage {
namespace {

using ::testing::HasSubstr;

// -- Signatures: docs.aws.amazon.com/AmazonS3/latest/API/sig-v4-header-based-auth.html, "Examples" ------------------

const Credentials kExample{"AKIAIOSFODNN7EXAMPLE", "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY", ""};

SignedRequest ExampleRequest(std::string method, std::string path, Pairs query, Pairs headers) {
  SignedRequest out{std::move(method), std::move(path), std::move(query), std::move(headers), std::string(kEmptySha256)};
  out.headers.emplace_back("host", "examplebucket.s3.amazonaws.com");
  out.headers.emplace_back("x-amz-date", "20130524T000000Z");
  return out;
}

std::string SignatureOf(SignedRequest request) {
  request.headers.emplace_back("x-amz-content-sha256", request.payload_sha256);
  const std::string value = Authorization(request, kExample, "us-east-1", "s3", "20130524T000000Z");
  return value.substr(value.rfind('=') + 1);
}

TEST(Sign, GetsTheSignatureOfThePublishedGet) {
  SignedRequest request = ExampleRequest("GET", "/test.txt", {}, {{"range", "bytes=0-9"}});
  EXPECT_EQ(SignatureOf(request), "f0e8bdb87c964420e857bd35b5d6ed310bd44f0170aba48dd91039c6036bdb41");
  request.headers.emplace_back("x-amz-content-sha256", request.payload_sha256);
  EXPECT_EQ(CanonicalRequest(request),
            "GET\n/test.txt\n\nhost:examplebucket.s3.amazonaws.com\nrange:bytes=0-9\n"
            "x-amz-content-sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855\nx-amz-date:20130524T000000Z\n\n"
            "host;range;x-amz-content-sha256;x-amz-date\ne3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
  EXPECT_THAT(Authorization(request, kExample, "us-east-1", "s3", "20130524T000000Z"),
              testing::StartsWith("AWS4-HMAC-SHA256 Credential=AKIAIOSFODNN7EXAMPLE/20130524/us-east-1/s3/aws4_request, SignedHeaders=host;range;"));
}

TEST(Sign, GetsTheSignatureOfThePublishedPut) {
  SignedRequest request = ExampleRequest("PUT", "/" + UriEncode("test$file.text", true), {}, {{"date", "Fri, 24 May 2013 00:00:00 GMT"}, {"x-amz-storage-class", "REDUCED_REDUNDANCY"}});
  request.payload_sha256 = Sha256Hex("Welcome to Amazon S3.");
  EXPECT_EQ(SignatureOf(request), "98ad721746da40c64f1a55b78f14c238d841ea1380cd77a1b5971af0ece108bd");
}

TEST(Sign, GetsTheSignaturesOfThePublishedQueries) {
  EXPECT_EQ(SignatureOf(ExampleRequest("GET", "/", {{"lifecycle", ""}}, {})), "fea454ca298b7da1c68078a5d1bdbfbbe0d65c699e0f91ac7a200a0136783543");
  EXPECT_EQ(SignatureOf(ExampleRequest("GET", "/", {{"prefix", "J"}, {"max-keys", "2"}}, {})), "34b48302e7b5fa45bde8084f4b7868a86f0a534bc59db6670ed5711ef69dc6f7");
}

TEST(Sign, GetsTheSignatureOfTheTestSuite) {
  // get-vanilla of the AWS Signature Version 4 test suite.
  SignedRequest request{"GET", "/", {}, {{"host", "example.amazonaws.com"}, {"x-amz-date", "20150830T123600Z"}}, std::string(kEmptySha256)};
  EXPECT_EQ(Authorization(request, {"AKIDEXAMPLE", "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY", ""}, "us-east-1", "service", "20150830T123600Z"),
            "AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE/20150830/us-east-1/service/aws4_request, SignedHeaders=host;x-amz-date, "
            "Signature=5fa00fa31553b73ebf1942676e86291e8372ff2a2260956d9b8aae1d763fbf31");
}

TEST(Sign, HasTheHmacOfTheStandard) {
  // RFC 4231, test cases 1, 2 and 6 (a key longer than a block).
  auto hex = [](const std::string& bytes) {
    std::string out;
    for (unsigned char c : bytes) {
      out += "0123456789abcdef"[c >> 4];
      out += "0123456789abcdef"[c & 15];
    }
    return out;
  };
  EXPECT_EQ(hex(HmacSha256(std::string(20, '\x0b'), "Hi There")), "b0344c61d8db38535ca8afceaf0bf12b881dc200c9833da726e9376c2e32cff7");
  EXPECT_EQ(hex(HmacSha256("Jefe", "what do ya want for nothing?")), "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843");
  EXPECT_EQ(hex(HmacSha256(std::string(131, '\xaa'), "Test Using Larger Than Block-Size Key - Hash Key First")), "60e431591ee0b67f0d8a26aacbf5b77f8e0bc6213728c5140546040f0ee37f54");
}

TEST(Sign, EncodesAndDates) {
  EXPECT_EQ(AmzDate(1369353600), "20130524T000000Z");
  EXPECT_EQ(UriEncode("a b/c~d.é$", true), "a%20b/c~d.%C3%A9%24");
  EXPECT_EQ(UriEncode("a/b", false), "a%2Fb");
  EXPECT_EQ(CanonicalQuery({{"b", "1 2"}, {"a", ""}, {"B", "x"}}), "B=x&a=&b=1%202");
}

TEST(Sha256, IsTheSameForLargeContent) {
  const std::string block(1 << 20, 'x');
  Sha256 small, large(uint64_t{9} << 20);
  for (int i = 0; i < 9; ++i) {
    small.Update(block);
    large.Update(block);
  }
  EXPECT_EQ(small.HexDigest(), large.HexDigest());
}

// -- Addresses ---------------------------------------------------------------

TEST(Uri, ReadsAddresses) {
  auto s3 = ParseAddress("s3://data-1/a/b c.txt");
  ASSERT_TRUE(s3.ok());
  EXPECT_EQ(s3->bucket, "data-1");
  EXPECT_EQ(s3->key, "a/b c.txt");
  EXPECT_TRUE(ParseAddress("https://h/x?y=1").ok());
  for (const char* wrong : {"s3://", "s3:///key", "s3://B_/", "s3://a/b", "https://", "https:///x", "https://h/a b", "http://h/x", "gs://b/x", "x", "s3://bucket/\n"}) {
    EXPECT_FALSE(ParseAddress(wrong).ok()) << wrong;
  }
  EXPECT_THAT(ParseAddress("http://h/x").error().message, HasSubstr("use `https://`"));
  EXPECT_EQ(JoinUri("s3://b/p/", "x/y"), "s3://b/p/x/y");
}

TEST(Uri, ShowsNoCredentials) {
  EXPECT_EQ(ShownUri("https://user:secret@h/a?X-Amz-Signature=abc#f"), "https://h/a?…");
  EXPECT_EQ(ShownUri("https://h/a@b"), "https://h/a@b");
  EXPECT_EQ(ShownUri("s3://b/what?x"), "s3://b/what?x");
}

// -- Settings ----------------------------------------------------------------

struct World {
  std::map<std::string, std::string> variables, files;
  Result<S3Settings> Read() const {
    auto find = [](const std::map<std::string, std::string>& in, const std::string& name) {
      auto found = in.find(name);
      return found == in.end() ? std::nullopt : std::optional<std::string>(found->second);
    };
    return ReadS3Settings({[&, find](const std::string& name) { return find(variables, name); }, [&, find](const std::string& path) { return find(files, path); }});
  }
};

TEST(Settings, TakesTheEnvironmentFirst) {
  World world{{{"AWS_ACCESS_KEY_ID", "K"}, {"AWS_SECRET_ACCESS_KEY", "S"}, {"AWS_SESSION_TOKEN", "T"}, {"AWS_REGION", "eu-central-1"}, {"HOME", "/h"},
               {"AWS_ENDPOINT_URL", "https://one"}, {"AWS_ENDPOINT_URL_S3", "https://two/"}},
              {{"/h/.aws/credentials", "[default]\naws_access_key_id = no\naws_secret_access_key = no\n"}}};
  auto read = world.Read();
  ASSERT_TRUE(read.ok());
  EXPECT_EQ(read->credentials.access_key, "K");
  EXPECT_EQ(read->credentials.session_token, "T");
  EXPECT_EQ(read->region, "eu-central-1");
  EXPECT_EQ(read->endpoint, "https://two");
  EXPECT_EQ(read->endpoint_from, "AWS_ENDPOINT_URL_S3");
  world.variables["JOBC_S3_ENDPOINT"] = "http://127.0.0.1:9000";
  EXPECT_EQ(world.Read()->endpoint, "http://127.0.0.1:9000");
}

TEST(Settings, ReadsTheFilesOfTheAwsCommandLine) {
  World world{{{"HOME", "/h"}, {"AWS_PROFILE", "lab"}},
              {{"/h/.aws/credentials", "# mine\n[default]\naws_access_key_id=D\naws_secret_access_key=D\n[lab]\r\naws_access_key_id = L1\r\naws_secret_access_key = L2=\r\n"},
               {"/h/.aws/config", "[profile lab]\nregion = us-west-2\ns3 =\n  endpoint_url = https://nested\nendpoint_url = https://lab:9000\n"}}};
  auto read = world.Read();
  ASSERT_TRUE(read.ok());
  EXPECT_EQ(read->credentials.access_key, "L1");
  EXPECT_EQ(read->credentials.secret_key, "L2=");
  EXPECT_EQ(read->region, "us-west-2");
  EXPECT_EQ(read->endpoint, "https://lab:9000");
}

TEST(Settings, SaysWhatToSet) {
  World world{{{"HOME", "/h"}}, {}};
  EXPECT_THAT(world.Read().error().message, HasSubstr("set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or write them to `/h/.aws/credentials`"));
  world.variables["AWS_ACCESS_KEY_ID"] = "K";
  EXPECT_THAT(world.Read().error().message, HasSubstr("AWS_SECRET_ACCESS_KEY is not"));
  world.variables.erase("AWS_ACCESS_KEY_ID");
  world.variables["AWS_PROFILE"] = "lab";
  world.files["/h/.aws/credentials"] = "[default]\n";
  EXPECT_THAT(world.Read().error().message, HasSubstr("no profile `lab`"));
  world.files["/h/.aws/credentials"] = "[lab]\naws_access_key_id = K\n";
  EXPECT_THAT(world.Read().error().message, HasSubstr("needs `aws_access_key_id"));
  world.variables["JOBC_S3_ENDPOINT"] = "s3.example.com";
  EXPECT_THAT(world.Read().error().message, HasSubstr("`s3.example.com` (JOBC_S3_ENDPOINT) is no address"));
}

// -- Answers -----------------------------------------------------------------

TEST(Xml, ReadsWhatServersSend) {
  auto read = ParseXml("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<!-- x --><R xmlns=\"http://s3/\" a='b'><Name>b</Name>"
                       "<Key>a &amp; &lt;b&gt; &#233;&#x1F600;</Key><Raw><![CDATA[<raw>]]></Raw><Owner/></R>\n");
  ASSERT_TRUE(read.ok()) << read.error().message;
  EXPECT_EQ(read->name, "R");
  EXPECT_EQ(read->Text("Name"), "b");
  EXPECT_EQ(read->Text("Key"), "a & <b> é😀");
  EXPECT_EQ(read->Text("Raw"), "<raw>");
}

TEST(Xml, ReadsErrorsAndUploads) {
  const S3Error error = ReadS3Error("<Error><Code>NoSuchKey</Code><Message>gone &amp; away</Message></Error>");
  EXPECT_EQ(error.code, "NoSuchKey");
  EXPECT_EQ(error.message, "gone & away");
  EXPECT_EQ(ReadS3Error("<html>502</html>").code, "");
  EXPECT_EQ(*ReadUploadId("<s:InitiateMultipartUploadResult xmlns:s=\"x\"><s:UploadId>u1</s:UploadId></s:InitiateMultipartUploadResult>"), "u1");
  EXPECT_FALSE(ReadUploadId("<InitiateMultipartUploadResult/>").ok());
}

TEST(Xml, RefusesWhatIsNoXml) {
  for (const char* wrong : {"", "x", "<a>", "<a></b>", "<a", "<a b></a>", "<a b=c></a>", "<a b=\"></a>", "<a>&x;</a>", "<a>&#0;</a>", "<a>&#xD800;</a>", "<a>&amp</a>", "<a/><b/>", "<!DOCTYPE a><a/>",
                            "<a><!-- </a>", "<a><![CDATA[</a>", "<?xml", "< a/>"}) {
    EXPECT_FALSE(ParseXml(wrong).ok()) << wrong;
  }
  std::string deep;
  for (int i = 0; i < 100'000; ++i) deep += "<a>";
  EXPECT_FALSE(ParseXml(deep).ok());
}

// -- Retries -----------------------------------------------------------------

TEST(Retries, WaitLongerEachTimeAndEnd) {
  RetryPolicy policy;
  policy.tries = 6;
  Retries retries(policy, 3);
  const Failure busy{FailureKind::Busy, "", 0, 503};
  int64_t delay = 250;
  for (int i = 1; i < policy.tries; ++i, delay *= 2) {
    const int64_t got = retries.Next(busy, false);
    EXPECT_GE(got, delay / 2);
    EXPECT_LE(got, delay);
  }
  EXPECT_EQ(retries.Next(busy, false), -1);
}

TEST(Retries, CountAnewAfterProgress) {
  Retries retries({}, 1);
  for (int i = 0; i < 1000; ++i) EXPECT_GE(retries.Next({FailureKind::Network, "", 0, 0}, true), 0);
}

TEST(Retries, DoWhatTheServerAsks) {
  Retries retries({}, 1);
  EXPECT_EQ(retries.Next({FailureKind::Busy, "", 7000, 503}, false), 7000);
  EXPECT_EQ(retries.Next({FailureKind::Busy, "", 3'600'000, 503}, false), 60'000);
}

TEST(Retries, LeaveAloneWhatWillNotMend) {
  for (FailureKind kind : {FailureKind::Auth, FailureKind::Missing, FailureKind::Changed, FailureKind::Exists, FailureKind::Refused, FailureKind::Local}) {
    Retries retries({}, 1);
    EXPECT_EQ(retries.Next({kind, "", 0, 0}, false), -1);
  }
}

// -- Lists ------------------------------------------------------------------------

TEST(Listing, ThatCannotBeRead) {
  for (const char* text : {"", "<Error><Code>NoSuchBucket</Code></Error>", "<ListBucketResult><Contents><Key>a</Key></Contents></ListBucketResult>",
                           "<ListBucketResult><Contents><Key>a</Key><Size>x1</Size></Contents></ListBucketResult>", "<ListBucketResult><Contents><Size>1</Size></Contents></ListBucketResult>"}) {
    EXPECT_FALSE(ReadListing(text)) << text;
  }
  auto page = ReadListing("<ListBucketResult><IsTruncated>true</IsTruncated><Contents><Key>a+b%2B</Key><ETag>&quot;1&quot;</ETag><Size>7</Size></Contents></ListBucketResult>");
  ASSERT_TRUE(page);
  EXPECT_TRUE(page->more);
  EXPECT_EQ(page->objects[0].key, "a+b%2B");  // nobody said that it is encoded
  EXPECT_EQ(page->objects[0].etag, "\"1\"");
  EXPECT_EQ(page->objects[0].size, 7u);
}

}  // namespace
}  // namespace jobc::storage
