"""What people ask about the yard itself: what it is, its models, its routing. Facts follow the design."""

from training.generate.intent import Intent, intent

YARD: tuple[Intent, ...] = (
    intent(
        "what_is",
        "faq",
        (
            "Batchyard takes AI jobs in batches, routes each to a fitting model, and keeps the results.",
            (
                "what is [Batchyard|this yard|the yard|this system]?",
                "what does [Batchyard|the yard|this system] do?",
                "[explain|describe] [Batchyard|the yard] [briefly|in short|please]",
                "what is [Batchyard|this yard] [for|good for|about]?",
                "tell me about [Batchyard|this yard|the yard]",
                "[purpose|idea] of [Batchyard|the yard]?",
            ),
            ("in one line, what is Batchyard?", "why would one want Batchyard?"),
        ),
        (
            "Batchyard 成批接收 AI 作业，把每个作业送到合适的模型，并保存结果。",
            (
                "[Batchyard|这个车场|这个系统]是什么？",
                "[Batchyard|车场|这个系统][有什么用|是做什么的|能干什么]？",
                "[介绍|说明|解释]一下[Batchyard|这个车场|这个系统]",
                "什么是 Batchyard？",
                "Batchyard 的[用途|作用|目的]是什么？",
            ),
            ("一句话说说 Batchyard 是啥", "为什么要用这个 Batchyard？"),
        ),
    ),
    intent(
        "models",
        "faq",
        (
            "Two starter models: defect_detect for board reports and chat for questions.",
            (
                "which models [are there|do you have|are loaded|are available|can I use]?",
                "what models [run here|are in the yard|does the yard have]?",
                "list [the|all|your] models",
                "show me the [models|model list]",
                "how many models [are there|do you have]?",
            ),
            ("name the models you come with", "the models on offer are which ones?"),
        ),
        (
            "自带两个模型：defect_detect 看板检报告，chat 回答问题。",
            (
                "有哪些模型[可用|可以用|]？",
                "[车场|系统|这里][里|]有[什么|哪些]模型？",
                "[列出|看看|显示][所有|全部|]模型",
                "[现在|]加载了[哪些|几个]模型？",
                "模型列表[在哪|是什么|]？",
            ),
            ("自带的模型都叫啥？", "请报一下你们的模型"),
        ),
    ),
    intent(
        "add_model",
        "faq",
        (
            "Add an entry to model_list in configs/models.yaml and start a worker for it.",
            (
                "how [do I|can I|to] add [a|another|my own|a new] model?",
                "[add|install|register|load] [a new|another|my] model",
                "how do I [use|run|bring] my own GGUF?",
                "can I [use|put in|add] [Mistral|Phi-3|DeepSeek|a bigger model]?",
                "where do I [configure|define|put] a [new |]model?",
            ),
            ("steps for plugging in one more model?", "I have a GGUF file, how does it get into the yard?"),
        ),
        (
            "在 configs/models.yaml 的 model_list 里加一项，再为它启动一个 worker。",
            (
                "[怎么|如何|怎样][添加|增加|加入|注册|加载][一个|新的|自己的|]模型？",
                "[怎么|如何]用[自己的|我的|别的] GGUF [模型|文件|]？",
                "[可以|能]用[Mistral|Phi-3|DeepSeek|更大的模型]吗？",
                "新模型[在哪|怎么]配置？",
                "想[加|换]一个模型[怎么做|怎么办|]",
            ),
            ("我手上有个 GGUF，怎样放进来？", "再接入一个模型要几步？"),
        ),
    ),
    intent(
        "routing",
        "faq",
        (
            "The router tries rules first, then a trained classifier, then applies the policy.",
            (
                "how does [routing|the router] work?",
                "how [is|does] a job [routed|find its model]?",
                "who decides which model [gets|runs] my job?",
                "how do you [choose|pick|select] the model?",
                "what does the router do?",
                "explain [routing|the router]",
            ),
            ("by what logic is a model chosen?", "what happens inside the router?"),
        ),
        (
            "路由先用规则，再用训练好的分类器，然后按策略选择模型。",
            (
                "路由[怎么|如何|是怎么][工作|运作|实现]的？",
                "作业[怎么|如何][分配|路由|找到模型]？",
                "[谁|什么]决定用哪个模型？",
                "[怎么|如何][选择|挑选]模型？",
                "路由器[做什么|是干什么的|的作用]？",
            ),
            ("模型是按什么逻辑挑的？", "路由内部发生了什么？"),
        ),
    ),
    intent(
        "out_of_scope",
        "faq",
        (
            "Out of scope means no task fits; such a job goes to the default queue.",
            (
                "what [does|is] out of scope[| mean]?",
                "what does oos mean?",
                "what happens [to|with] [jobs out of scope|unknown requests|jobs that fit no task]?",
                "why [was|is] my job out of scope?",
                "meaning of out of scope",
            ),
            ("define oos for me", "my result says out of scope, what is that?"),
        ),
        (
            "超出范围是指没有合适的任务；这样的作业进入默认队列。",
            (
                "[超出范围|oos|out of scope]是什么意思？",
                "什么[叫|是]超出范围？",
                "[不属于任何任务的|未知的|超出范围的][作业|请求]会怎么样？",
                "为什么我的作业[超出范围|是 oos]？",
            ),
            ("结果显示 oos，这指什么？", "超出范围的活儿去哪了？"),
        ),
    ),
    intent(
        "tasks",
        "faq",
        (
            "Tasks: defect_detect, text_cls, ner, contract, tech_doc, greeting, faq, or auto.",
            (
                "which [tasks|kinds of work|job types] [are there|do you support|exist]?",
                "what [tasks|kinds of jobs] can [I submit|you do]?",
                "list [the|all] tasks",
                "what can [you|the yard] do?",
                "[supported|available] tasks?",
            ),
            ("what sorts of jobs get accepted?", "your task names, please"),
        ),
        (
            "任务有 defect_detect、text_cls、ner、contract、tech_doc、greeting、faq 或 auto。",
            (
                "[支持|有][哪些|什么]任务？",
                "[可以|能]提交[哪些|什么][任务|类型的作业]？",
                "[列出|看看]所有任务",
                "你[能|会|可以]做什么？",
                "任务[类型|种类]有哪些？",
            ),
            ("都收哪几类活儿？", "任务名字请说一下"),
        ),
    ),
    intent(
        "auto",
        "faq",
        (
            "With task auto the router classifies the job and picks the model.",
            (
                "what [is|does|means] [task |]auto[| mean| do]?",
                "do I have to [choose|name|set] a task?",
                "[can|must] I leave the task [out|empty|open]?",
                "what happens with task auto?",
                "when [should I|to] use auto?",
            ),
            ("I do not know the task, what now?", "auto as a task, meaning?"),
        ),
        (
            "任务为 auto 时，路由器给作业分类并选择模型。",
            (
                "[任务|task] auto 是什么[意思|]？",
                "[必须|一定要][指定|填写|选]任务吗？",
                "不[写|填|指定]任务[会怎样|可以吗]？",
                "什么时候用 auto？",
                "auto [有什么用|怎么用]？",
            ),
            ("我不知道选什么任务怎么办？", "任务一栏写 auto 意味着什么？"),
        ),
    ),
    intent(
        "flower",
        "faq",
        (
            "Flower shows workers and tasks; a run with --keep prints its address and login.",
            (
                "where is Flower?",
                "[what is|how do I open|how can I reach] Flower?",
                "[is there|do you have] a [dashboard|monitor|web page]?",
                "how [do I|can I] [watch|monitor|see] the workers?",
                "[address|url|port|login] of Flower?",
            ),
            ("I want to look at Flower, which address?", "any web view of workers and tasks?"),
        ),
        (
            "Flower 显示 worker 和任务；用 --keep 运行时会打印地址和登录。",
            (
                "Flower [在哪|在哪里|怎么打开|是什么]？",
                "[怎么|如何|哪里][监控|查看|看] worker [的状态|]？",
                "有[监控|网页|仪表盘][界面|]吗？",
                "Flower 的[地址|端口|登录|密码]是什么？",
            ),
            ("想看看 Flower，从哪进？", "有没有网页能看任务和 worker？"),
        ),
    ),
    intent(
        "cache",
        "faq",
        (
            "The exact cache answers repeats; a near cache serves only tasks that allow it.",
            (
                "[is there|do you have] a cache?",
                "how does the cache work?",
                "are [answers|results|repeated jobs] cached?",
                "what is [cached|the near cache|the exact cache]?",
                "does [asking|submitting] the same [thing|job] twice run twice?",
            ),
            ("same prompt again, is it recomputed?", "tell me of caching here"),
        ),
        (
            "精确缓存回答重复的作业；近似缓存只用于允许它的任务。",
            (
                "有缓存吗？",
                "缓存[怎么|如何|是怎么]工作[的|]？",
                "[结果|答案|重复的作业]会缓存吗？",
                "什么是[近似缓存|精确缓存]？",
                "同样的作业[提交|问]两次会[重新|再]算吗？",
            ),
            ("相同的提示词还会重算一遍吗？", "讲讲这里的缓存"),
        ),
    ),
    intent(
        "privacy",
        "faq",
        (
            "Everything runs on your own machines unless you configure a cloud model.",
            (
                "[does|will] my data [leave|go outside|go to the cloud]?",
                "is [my data|it] [private|safe|kept local]?",
                "do you [need|use] the [internet|cloud]?",
                "where [does|do] the [models|data] [run|stay|live]?",
                "does it work offline?",
            ),
            ("are prompts sent to somebody else?", "no internet here, is that a problem?"),
        ),
        (
            "除非配置了云端模型，一切都在您自己的机器上运行。",
            (
                "[数据|我的数据]会[外传|上传|离开本机|上云]吗？",
                "[数据|隐私][安全|保密]吗？",
                "需要[联网|互联网|云]吗？",
                "[可以|能][离线|断网]使用吗？",
                "模型在哪里运行？",
            ),
            ("提示词会发给别人吗？", "这里没网，能行吗？"),
        ),
    ),
    intent(
        "gpu",
        "faq",
        (
            "Each worker is pinned to one GPU by UUID; without a GPU it runs on the CPU.",
            (
                "[do I|does it] need a GPU?",
                "[can|does] it run [on the CPU|without a GPU]?",
                "which GPU [is used|does a worker use]?",
                "how are [GPUs|workers] pinned?",
                "does it [work|run] on a P40?",
            ),
            ("no graphics card here, will it run?", "which card hauls which model?"),
        ),
        (
            "每个 worker 按 UUID 固定到一块 GPU；没有 GPU 时用 CPU 运行。",
            (
                "[需要|必须有|一定要] GPU 吗？",
                "[没有 GPU|只有 CPU]能[运行|用]吗？",
                "[worker|模型]用哪块[GPU|显卡]？",
                "[怎么|如何]固定 GPU？",
                "P40 能用吗？",
            ),
            ("这台没有显卡，跑得起来吗？", "哪张卡跑哪个模型？"),
        ),
    ),
)
