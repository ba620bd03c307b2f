"""What people ask about jobs: submitting, waiting, cancelling, errors. Facts follow the design."""

from training.generate.intent import Intent, intent

JOBS: tuple[Intent, ...] = (
    intent(
        "submit",
        "faq",
        (
            "Use batchyard submit jobs.jsonl, or client.submit_many in Python.",
            (
                "how [do I|can I|to] submit [a job|jobs|a batch|my work]?",
                "how do I [send|start|hand in] [a job|jobs|work]?",
                "[submit|send] [a batch|many jobs|a file of jobs], how?",
                "where do I put my jobs?",
                "what is the command [to submit|for submitting][| jobs]?",
            ),
            ("I have a JSONL of prompts, how does it get in?", "way of handing work to the yard?"),
        ),
        (
            "用 batchyard submit jobs.jsonl，或在 Python 里用 client.submit_many。",
            (
                "[怎么|如何|怎样]提交[作业|任务|一批作业|]？",
                "[怎么|如何][发送|开始|交]作业？",
                "提交[作业|任务]的命令是什么？",
                "[作业|任务]往哪里[交|放|发]？",
                "[怎么|如何]一次提交很多作业？",
            ),
            ("手里有一份 JSONL，怎样送进来？", "想把活儿交给车场，怎么弄？"),
        ),
    ),
    intent(
        "poll",
        "faq",
        (
            "Call client.result(id), or batchyard results for a whole batch.",
            (
                "how [do I|can I|to] [get|fetch|read|poll] [the|my] [result|results|answer|answers]?",
                "where are my results?",
                "how do I poll?",
                "[how|where] do I [see|find] the [answer|result] of [a|my] job?",
                "is my job [done|finished|ready]?",
                "how do I [collect|download] [results|the answers]?",
            ),
            ("my batch should be over, where do answers come out?", "command for picking up results?"),
        ),
        (
            "调用 client.result(id)，或用 batchyard results 取整批结果。",
            (
                "[怎么|如何|怎样][取|获取|查看|拿到|读取][结果|答案]？",
                "结果在哪[里|]？",
                "[怎么|如何]轮询？",
                "我的作业[完成|做完|好]了吗？",
                "[在哪|怎么]看作业的[答案|结果]？",
            ),
            ("这批该跑完了，答案从哪儿出来？", "取回结果的命令是哪个？"),
        ),
    ),
    intent(
        "status",
        "faq",
        (
            "Use batchyard status for counts, or client.status(id) for one job.",
            (
                "how [do I|can I|to] [check|see|query] the [status|state|progress]?",
                "what is the [status|state|progress] of my [job|batch]?",
                "how far is my batch?",
                "how many jobs are [left|waiting|done]?",
                "show [status|progress]",
            ),
            ("is there a progress view for a batch?", "in which state is my job, how to tell?"),
        ),
        (
            "用 batchyard status 看数量，用 client.status(id) 看单个作业。",
            (
                "[怎么|如何|哪里][查看|查询|看][状态|进度]？",
                "我的[作业|批次][状态|进度]是什么？",
                "[批次|作业][进行|跑]到哪了？",
                "还[剩|有][多少|几个]作业？",
                "显示[状态|进度]",
            ),
            ("能看到批次的进展吗？", "怎样知道作业处于哪个状态？"),
        ),
    ),
    intent(
        "cancel",
        "faq",
        (
            "Use batchyard cancel or client.cancel(id); a running job stops at the next step.",
            (
                "how [do I|can I|to] [cancel|stop|abort|kill] [a|my|the] [job|batch]?",
                "[cancel|stop|abort] [a|my] [job|batch]",
                "can a running job be [cancelled|stopped]?",
                "I submitted [by mistake|the wrong job|too much], [what now|how to stop it]?",
                "how to take a job back?",
            ),
            ("wrong file submitted, can I call it off?", "halt a job that runs already?"),
        ),
        (
            "用 batchyard cancel 或 client.cancel(id)；运行中的作业在下一步停止。",
            (
                "[怎么|如何|怎样][取消|停止|终止|中止][作业|任务|批次]？",
                "[取消|停止][一个|我的|]作业",
                "[运行中|正在跑]的作业能[取消|停]吗？",
                "[提交错|交错]了怎么办？",
                "[怎么|如何]撤回作业？",
            ),
            ("文件交错了，能叫停吗？", "已经在跑的活儿还能停下吗？"),
        ),
    ),
    intent(
        "priority",
        "faq",
        (
            "Priority is interactive or batch; interactive jobs go first.",
            (
                "[what|which] priorities [are there|exist|can I set]?",
                "how do priorities work?",
                "how [do I|can I] make a job [urgent|go first|faster]?",
                "what is [interactive|batch] priority?",
                "can I set [a|the] priority?",
            ),
            ("this one is urgent, can it jump the queue?", "which jobs are served before others?"),
        ),
        (
            "优先级有 interactive 和 batch；interactive 先运行。",
            (
                "[有哪些|有什么|支持什么]优先级？",
                "优先级[怎么|如何][设置|用|工作]？",
                "[怎么|如何]让作业[优先|先跑|更快]？",
                "interactive [是什么|和 batch 有什么区别]？",
                "[可以|能]设置优先级吗？",
            ),
            ("这个很急，可以插队吗？", "哪些作业先被处理？"),
        ),
    ),
    intent(
        "deadline",
        "faq",
        (
            "A job past its deadline is dropped at the next step and reported as expired.",
            (
                "what [is|does] [a|the] deadline[| do]?",
                "how [do I|can I] set a deadline?",
                "what happens [after|when I miss|at] the deadline?",
                "[can|do] jobs expire?",
                "my job expired, why?",
            ),
            ("job came too late, what becomes of it?", "time limit for an answer, possible?"),
        ),
        (
            "超过截止时间的作业在下一步被放弃，并报告为过期。",
            (
                "截止时间[是什么|有什么用|怎么用]？",
                "[怎么|如何]设置截止时间？",
                "[超过|过了]截止时间会怎样？",
                "作业会过期吗？",
                "我的作业为什么过期[了|]？",
            ),
            ("来不及跑的作业会怎么处理？", "能给回答定个时限吗？"),
        ),
    ),
    intent(
        "id",
        "faq",
        (
            "Each job has an id, or your own idempotency key; the same key runs once.",
            (
                "what is [a|the] job id?",
                "can I [use|give|set] my own id?",
                "what is an idempotency key?",
                "what if I submit [the same job|one id] twice?",
                "where [do I find|is] the job id?",
            ),
            ("our own order numbers as ids, allowed?", "double submission, is that harmful?"),
        ),
        (
            "每个作业有一个 id，也可用自己的幂等键；同一个键只运行一次。",
            (
                "作业 id 是什么？",
                "[可以|能]用自己的 id 吗？",
                "[什么是|]幂等键[是什么|]？",
                "同一个作业[提交|交]两次会怎样？",
                "作业 id 在哪里[看|找]？",
            ),
            ("用我们的订单号当 id 行吗？", "重复提交有害吗？"),
        ),
    ),
    intent(
        "output_form",
        "faq",
        (
            "Output can be text, a JSON schema, a grammar, or choices.",
            (
                "[which|what] output [forms|formats] [are there|do you support]?",
                "how do I get JSON[| back| out]?",
                "can I [force|ask for] a [JSON schema|grammar|fixed list of labels]?",
                "what are choices?",
                "how do I [limit|constrain|shape] the [answer|output]?",
            ),
            ("answers must be one of my labels, doable?", "structured answers, how?"),
        ),
        (
            "输出可以是文本、JSON schema、语法或 choices。",
            (
                "[支持|有][哪些|什么]输出[格式|形式]？",
                "[怎么|如何][得到|输出] JSON？",
                "[可以|能]用 [JSON schema|语法] 吗？",
                "choices 是什么？",
                "[怎么|如何][限制|约束]输出？",
            ),
            ("答案必须是我给的标签之一，行吗？", "要结构化的回答怎么办？"),
        ),
    ),
    intent(
        "failed",
        "faq",
        (
            "The result carries an error code, the field, a remedy, and whether a retry can help.",
            (
                "why did my job fail?",
                "my job [failed|has an error|is in error], [why|what now|help]",
                "what do the error [codes|messages] mean?",
                "[where|how] do I see the error?",
                "are [failed jobs|errors] retried?",
            ),
            ("something broke in my batch, where is the reason?", "job ended in red, what next?"),
        ),
        (
            "结果里有错误码、字段、补救办法，以及重试是否有用。",
            (
                "[为什么|怎么]我的作业失败了？",
                "作业[失败|出错|报错]了[怎么办|]？",
                "错误码是什么意思？",
                "[哪里|怎么]看错误[信息|原因|]？",
                "失败的作业会重试吗？",
            ),
            ("批次里有一个坏了，原因在哪儿看？", "作业变红了，接下来怎么做？"),
        ),
    ),
    intent(
        "lost",
        "faq",
        (
            "No: a job is acknowledged only after its result is stored, so a dead worker's jobs run again.",
            (
                "[can|will|do] jobs [get lost|be lost|vanish]?",
                "what happens [if|when] a worker [crashes|dies|is killed]?",
                "[is it|are jobs] safe [if|when] a worker crashes?",
                "what if the [machine|power|worker] fails?",
                "do I lose [work|jobs] after a crash?",
            ),
            ("pull the plug on a worker, what then?", "is anything dropped when a process dies?"),
        ),
        (
            "不会：结果保存后才确认作业，worker 崩溃后它的作业会重跑。",
            (
                "作业会[丢失|丢|消失]吗？",
                "worker [崩溃|挂了|被杀]会怎样？",
                "[机器|电源|进程]坏了怎么办？",
                "崩溃后作业还在吗？",
            ),
            ("突然断电，活儿会不会没了？", "进程死掉会漏掉什么吗？"),
        ),
    ),
    intent(
        "batching",
        "faq",
        (
            "The engine joins many jobs in one step, and new ones enter as others finish.",
            (
                "how does batching work?",
                "what is [continuous batching|a batch|a slot|a step]?",
                "how many jobs run at [once|the same time]?",
                "why is batching [faster|good]?",
                "how do jobs share [a|the] model?",
            ),
            ("several jobs through one model together, how?", "what does the engine do with many jobs?"),
        ),
        (
            "引擎在一步里合并许多作业，有的完成时新的就加入。",
            (
                "[批处理|合批|连续批处理][怎么|如何|是怎么]工作[的|]？",
                "什么是[连续批处理|批次|槽位|一步]？",
                "同时[能|可以]跑多少作业？",
                "为什么合批更快？",
                "多个作业怎么共用[一个|]模型？",
            ),
            ("好些作业一起过一个模型，怎么做到的？", "引擎碰到很多作业怎么办？"),
        ),
    ),
    intent(
        "start",
        "faq",
        (
            "Run make run: it starts Redis, the router, the workers and Flower, then a demo.",
            (
                "how [do I|can I|to] start [the yard|Batchyard|it|everything]?",
                "how do I [run|launch|install|set up] [it|Batchyard|the yard]?",
                "what is the [first|start] command?",
                "how to get [started|going]?",
                "quick start?",
            ),
            ("fresh clone in front of me, what do I type?", "first steps, please"),
        ),
        (
            "运行 make run：它启动 Redis、路由器、worker 和 Flower，然后演示。",
            (
                "[怎么|如何|怎样][启动|运行|安装|部署][车场|Batchyard|系统|]？",
                "[第一个|启动]命令是什么？",
                "[怎么|如何]开始[使用|]？",
                "快速[入门|上手|开始]",
            ),
            ("刚克隆下来，该敲什么？", "头一回用，先做什么？"),
        ),
    ),
    intent(
        "stop",
        "faq",
        (
            "Press Ctrl-C or run down: workers drain, and no child process stays.",
            (
                "how [do I|can I|to] [stop|shut down|turn off|end] [the yard|Batchyard|everything|it all]?",
                "how do I shut [it|the yard] down?",
                "what does Ctrl-C do?",
                "how to stop the workers?",
                "shut down [the yard|everything]",
            ),
            ("closing time, how is the yard switched off?", "proper way of ending the whole thing?"),
        ),
        (
            "按 Ctrl-C 或运行 down：worker 排空后退出，不留子进程。",
            (
                "[怎么|如何|怎样][关闭|停掉|停止|关掉][车场|Batchyard|系统|整个系统]？",
                "Ctrl-C [有什么用|会怎样|做什么]？",
                "[怎么|如何]停止 worker？",
                "关闭[车场|系统]",
            ),
            ("要收工了，整套怎么关？", "结束整个车场的正确方法？"),
        ),
    ),
    intent(
        "images",
        "faq",
        (
            "Chat messages may carry images; large ones travel once, by content hash.",
            (
                "can I [send|submit|attach] [images|pictures|photos]?",
                "are images supported?",
                "how [do I|to] [send|attach] an image?",
                "how are [large |]images sent?",
                "does it [read|understand] [pictures|images]?",
            ),
            ("photos of boards with a job, possible?", "a picture along with the prompt, how?"),
        ),
        (
            "消息可以带图片；大图片按内容哈希只传一次。",
            (
                "[可以|能][发|传|提交|附带][图片|照片]吗？",
                "支持图片吗？",
                "[怎么|如何][发|传|附上]图片？",
                "大图片怎么传？",
            ),
            ("作业里能带上板子的照片吗？", "提示词旁边放张图怎么弄？"),
        ),
    ),
    intent(
        "audit",
        "faq",
        (
            "Every result says which model file, policy version, prompt hash and seed made it.",
            (
                "[which|what] model gave [this|that|the] [answer|verdict]?",
                "can I [trace|audit] [a result|an answer]?",
                "what [is|does] provenance[| mean]?",
                "how do I know [which model|who] [answered|decided]?",
                "is there [an audit trail|provenance]?",
            ),
            ("months later, can I tell what produced a verdict?", "origin of an answer, where noted?"),
        ),
        (
            "每个结果都记录模型文件、策略版本、提示哈希和随机种子。",
            (
                "[这个|]结果是哪个模型[给|做]的？",
                "[可以|能][追溯|审计|追踪]结果吗？",
                "来源信息[是什么|在哪]？",
                "[怎么|如何]知道是[谁|哪个模型]回答的？",
            ),
            ("几个月后还查得到判定出处吗？", "答案的来历记在哪里？"),
        ),
    ),
)
