#include "storage/identify.h"

#include <algorithm>
#include <map>
#include <memory>

#include "storage/tree.h"
#include "storage/uri.h"

namespace jobc::storage {
namespace {

class Identification {
 public:
  Identification(Transfers& transfers, const IdentifyOptions& options, const std::vector<std::string>& uris, std::vector<Outcome<RemoteIdentity>>& out)
      : transfers_(transfers), options_(options), uris_(uris), out_(out), left_(uris.size()) {}

  size_t left() const { return left_; }

  void Begin() {
    std::map<std::string, Bucket> buckets;
    for (size_t i = 0; i < uris_.size(); ++i) {
      if (IsTreeUri(uris_[i])) {
        ListAll(transfers_, uris_[i], kMostTreeFiles, std::make_shared<Transfers::Id>(0), [this, i](Outcome<std::vector<ListPage::Object>> objects) {
          auto tree = objects ? ReadTree(uris_[i], *objects) : Outcome<RemoteTree>(objects.failure());
          Got(i, tree ? Outcome<RemoteIdentity>(tree->identity) : Outcome<RemoteIdentity>(tree.failure()));
        });
        continue;
      }
      auto address = ParseAddress(uris_[i]);
      if (options_.may_list && address && address->scheme == Scheme::S3 && !address->key.empty()) {
        buckets[address->bucket].wanted.push_back({std::move(address->key), i});
      } else {
        Ask(i);
      }
    }
    for (auto& [name, bucket] : buckets) {
      std::sort(bucket.wanted.begin(), bucket.wanted.end(), [](const Wanted& a, const Wanted& b) { return a.key < b.key; });
      bucket.name = name;
      auto shared = std::make_shared<Bucket>(std::move(bucket));
      if (shared->wanted.size() < options_.worth_listing) {
        AskRest(*shared);
      } else {
        AskFirst(std::move(shared));
      }
    }
  }

 private:
  struct Wanted {
    std::string key;
    size_t index = 0;
  };
  struct Bucket {
    std::string name;
    std::vector<Wanted> wanted;  ///< by key
    size_t next = 0;             ///< those before are done, or asked for
    RemoteIdentity first;        ///< as the object itself says
  };

  void Ask(size_t index) {
    transfers_.Head(uris_[index], [this, index](Outcome<RemoteIdentity> one) { Got(index, std::move(one)); });
  }

  void Got(size_t index, Outcome<RemoteIdentity> one) {
    out_[index] = std::move(one);
    --left_;
  }

  /// One by one: the answers are those that count, and their messages say what is wrong.
  void AskRest(Bucket& bucket) {
    while (bucket.next < bucket.wanted.size()) {
      Ask(bucket.wanted[bucket.next++].index);
    }
  }

  /// Lists know no versions, and there may be servers whose lists name contents in another way than the objects do. So the
  /// first object is asked for itself, and lists are read only where they say the same.
  void AskFirst(std::shared_ptr<Bucket> bucket) {
    const size_t index = bucket->wanted.front().index;
    transfers_.Head(uris_[index], [this, bucket, index](Outcome<RemoteIdentity> one) {
      const bool can = one.ok() && !one->etag.empty() && one->version.empty();
      if (can) {
        bucket->first = *one;
      }
      Got(index, std::move(one));
      bucket->next = 1;
      if (can) {
        return List(bucket, "");
      }
      AskRest(*bucket);
    });
  }

  void List(std::shared_ptr<Bucket> bucket, std::string after) {
    // The first page names the first object once more.
    const std::vector<Wanted>& wanted = bucket->wanted;
    const std::string& from = wanted[bucket->next == 1 ? 0 : bucket->next].key;
    const std::string& to = wanted.back().key;
    size_t common = static_cast<size_t>(std::mismatch(from.begin(), from.end(), to.begin(), to.end()).first - from.begin());
    while (common > 0 && common < from.size() && (static_cast<unsigned char>(from[common]) & 0xC0) == 0x80) {
      --common;  // not in the middle of a letter
    }
    after = std::max(after, from.substr(0, from.find_last_of('/') + 1));  // over what lies between two directories
    transfers_.List("s3://" + bucket->name + "/" + from.substr(0, common), after, [this, bucket](Outcome<ListPage> page) {
      if (!page || page->objects.empty()) {
        return AskRest(*bucket);
      }
      Take(bucket, *page);
    });
  }

  void Take(const std::shared_ptr<Bucket>& bucket, const ListPage& page) {
    const std::vector<Wanted>& wanted = bucket->wanted;
    auto find = [&](const std::string& key) {
      auto found = std::lower_bound(page.objects.begin(), page.objects.end(), key, [](const ListPage::Object& one, const std::string& text) { return one.key < text; });
      return found != page.objects.end() && found->key == key ? &*found : nullptr;
    };
    if (bucket->next == 1) {
      const ListPage::Object* first = find(wanted.front().key);
      if (first == nullptr || first->identity != bucket->first) {
        return AskRest(*bucket);
      }
    }
    const std::string last = page.objects.back().key;
    size_t named = 0;
    while (bucket->next < wanted.size() && wanted[bucket->next].key <= last) {
      const Wanted& one = wanted[bucket->next++];
      if (const ListPage::Object* object = find(one.key); object != nullptr && object->identity.known()) {
        Got(one.index, object->identity);
        ++named;
      } else {
        Ask(one.index);
      }
    }
    if (bucket->next == wanted.size()) {
      return;
    }
    if (!page.more || named < options_.worth_a_page) {
      return AskRest(*bucket);
    }
    List(bucket, last);
  }

  Transfers& transfers_;
  const IdentifyOptions& options_;
  const std::vector<std::string>& uris_;
  std::vector<Outcome<RemoteIdentity>>& out_;
  size_t left_;
};

}  // namespace

std::vector<Outcome<RemoteIdentity>> IdentifyAll(const std::vector<std::string>& uris, bool may_list) {
  IdentifyOptions options;
  options.may_list = may_list;
  options.transfer.retry.tries = 4;
  options.transfer.stall_ms = 20'000;
  return IdentifyAll(uris, std::move(options));
}

std::vector<Outcome<RemoteIdentity>> IdentifyAll(const std::vector<std::string>& uris, IdentifyOptions options) {
  std::vector<Outcome<RemoteIdentity>> out(uris.size(), Failure{FailureKind::Network, "nothing was asked", 0, 0});
  uv_loop_t loop;
  if (uris.empty() || uv_loop_init(&loop) != 0) {
    return out;
  }
  {
    auto transfers = Transfers::Create(&loop, options.transfer);
    if (!transfers) {
      out.assign(uris.size(), Failure{FailureKind::Refused, transfers.error().message, 0, 0});
    } else {
      Identification all(**transfers, options, uris, out);
      all.Begin();
      while (all.left() > 0) {
        uv_run(&loop, UV_RUN_ONCE);
      }
    }
  }
  uv_run(&loop, UV_RUN_DEFAULT);
  uv_loop_close(&loop);
  return out;
}

}  // namespace jobc::storage
