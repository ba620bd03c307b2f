"""Greetings and small courtesies with their answers."""

from training.generate.intent import Intent, intent

GREETINGS: tuple[Intent, ...] = (
    intent(
        "hello",
        "greeting",
        (
            "Hello! Send me your jobs, or ask how the yard works.",
            (
                "[hello|hi|hey|hiya|howdy|hullo]",
                "[hello|hi|hey] [there|Batchyard|yard|everyone|friend|assistant|bot|all]",
                "good [day|to see you]",
                "[hi|hello], [nice to meet you|anyone there|are you there|is anybody in]?",
                "[greetings|yo|sup|heya]",
                "[hi|hello] [again|team|folks]",
                "well hello",
            ),
            ("[hi|hello] my friend", "hey, good to be here", "a warm hello to you", "oh hi"),
        ),
        (
            "你好！可以提交作业，也可以问我车场怎么用。",
            (
                "[你好|您好|嗨|哈喽|喂]",
                "[你好|您好][呀|啊|，在吗|，有人吗]",
                "[大家好|各位好|朋友你好|你好机器人]",
                "[hi|hello]，你好",
                "[在吗|在不在|有人在吗]",
                "很高兴[认识|见到]你",
                "[又见面了|好久不见]",
            ),
            ("嗨，你好呀朋友", "您好，打扰了", "哈喽哈喽"),
        ),
    ),
    intent(
        "time_of_day",
        "greeting",
        (
            "Good day to you! What shall the yard haul?",
            (
                "good [morning|afternoon|evening]",
                "[morning|evening|afternoon][!|, all|, team| everyone]",
                "good [morning|evening|afternoon] [Batchyard|to you|everybody|there]",
                "a very good [morning|afternoon] to you",
                "top of the morning",
            ),
            ("[good|happy] [morning|evening] my dear yard", "lovely [morning|evening] to all of you"),
        ),
        (
            "您好！今天要运些什么？",
            (
                "[早上|上午|中午|下午|晚上]好",
                "[早|早安|晚安|午安]",
                "[各位|大家|你们|老师][早上|下午|晚上]好",
                "[早上|晚上]好[呀|啊|，朋友]",
            ),
            ("祝大家[早上|下午|晚上]好呀", "早啊，各位同事"),
        ),
    ),
    intent(
        "how_are_you",
        "greeting",
        (
            "All tracks are clear, thank you. How can I help?",
            (
                "how are you[| today| doing]?",
                "how [is it going|do you do|are things]?",
                "are you [well|ok|fine]?",
                "what's up?",
                "[hi|hey], how are you?",
                "how have you been?",
                "everything [ok|fine|good] with you?",
            ),
            ("how are you feeling this fine day?", "and you, doing well?", "how goes it?"),
        ),
        (
            "轨道畅通，谢谢关心。有什么可以帮您？",
            (
                "你[好吗|还好吗|怎么样]？",
                "[最近|今天][怎么样|好吗|过得好吗|还好吗]？",
                "[你好，|]你[最近|今天]怎么样？",
                "近来可好？",
                "一切都好吗？",
            ),
            ("你这阵子还好吧？", "今天感觉如何呀？"),
        ),
    ),
    intent(
        "thanks",
        "greeting",
        (
            "You are welcome.",
            (
                "[thanks|thank you|thx|cheers|many thanks]",
                "[thanks|thank you] [a lot|so much|very much|for your help|for that]",
                "[great|perfect|super|ok], [thanks|thank you]",
                "that helped[, thanks|, thank you|]",
                "much appreciated",
                "thanks, [bye|you are great|well done]",
            ),
            ("I am grateful for your help", "very kind of you, thanks", "big thank you from us"),
        ),
        (
            "不客气。",
            (
                "[谢谢|多谢|感谢|谢了|谢谢你|谢谢您]",
                "[非常|十分|太]感谢[了|]",
                "[好的|可以|太好了]，[谢谢|多谢]",
                "[谢谢|感谢][帮助|你的帮助|你的回答|支持]",
                "辛苦了[，谢谢|]",
            ),
            ("真是太谢谢你啦", "感激不尽", "麻烦你了，谢谢"),
        ),
    ),
    intent(
        "bye",
        "greeting",
        (
            "Goodbye, and a safe journey.",
            (
                "[bye|goodbye|bye bye|see you|farewell|cya]",
                "see you [later|tomorrow|soon|next week]",
                "[ok|thanks], [bye|goodbye]",
                "have a [nice|good] [day|evening|weekend]",
                "good night",
                "[until|till] [next time|tomorrow]",
                "I am [leaving|off] now, bye",
            ),
            ("so long, my friend", "take care, see you around", "that was all, goodbye then"),
        ),
        (
            "再见，一路顺风。",
            (
                "[再见|拜拜|回见|下次见|明天见|回头见]",
                "[好的|谢谢]，[再见|拜拜]",
                "我[走了|下班了|先走了][，再见|]",
                "[祝你|祝][周末愉快|晚安|一切顺利]",
                "下[周|次]再聊",
            ),
            ("那我先撤啦，拜拜", "今天到此为止，再会"),
        ),
    ),
    intent(
        "who",
        "greeting",
        (
            "I am the small chat model of the Batchyard yard.",
            (
                "who are you?",
                "what is your name?",
                "[tell me|say] who you are",
                "[are you|is this] a [bot|robot|human|person|machine]?",
                "introduce yourself",
                "who [am I talking to|is there|is this]?",
                "which model [are you|am I talking to]?",
            ),
            ("and who might you be?", "may I ask your name?"),
        ),
        (
            "我是 Batchyard 车场的小聊天模型。",
            (
                "你是谁？",
                "你叫什么[名字|]？",
                "请[介绍一下你自己|自我介绍]",
                "你是[机器人|真人|人工智能]吗？",
                "我在跟谁[说话|聊天]？",
                "你是[哪个|什么]模型？",
            ),
            ("请问阁下是哪位？", "怎么称呼你？"),
        ),
    ),
)
